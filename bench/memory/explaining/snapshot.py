"""An explanation as a memory snapshot of PyTorch's own format: opens in memory_viz and torch.cuda._memory_viz.

The format is that of torch.cuda.memory._snapshot(): the segments with their blocks as they are at the end, and a trace
of everything that happened, each allocation with the lines that asked for it. Where the batch does not fit, the trace
ends with an out of memory at the line that failed.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.memory.allocator.caching import SegmentState
from bench.memory.allocator.history import Action, Entry
from bench.memory.explaining.explain import Explanation
from bench.memory.explaining.sources import Source

_PLACE = {"device": 0, "stream": 0}


def write(explanation: Explanation, path: Path) -> None:
    """Write the snapshot of an explanation.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(pickle.dumps(snapshot(explanation), protocol=4))


def snapshot(explanation: Explanation) -> dict[str, Any]:
    """The snapshot as plain data."""
    entries = (e for number, entry in enumerate(explanation.history) for e in _entries(explanation, number, entry))
    return {
        "segments": [_segment(explanation, segment) for segment in explanation.segments],
        "device_traces": [list(entries)],
        "allocator_settings": {},
        "external_annotations": [],
    }


def _entries(explanation: Explanation, number: int, entry: Entry) -> Iterator[dict[str, Any]]:
    """One entry of the history as PyTorch tells it; a free is two: asked for, and done."""
    common = _PLACE | {
        "time_us": number,
        "addr": entry.address,
        "size": entry.size_bytes,
        "frames": [] if entry.key < 0 or entry.action is Action.FREE else _frames(explanation.sources[entry.key]),
    }
    if entry.action is Action.FREE:
        yield common | {"action": "free_requested"}
        yield common | {"action": "free_completed"}
    elif entry.action is Action.OUT_OF_MEMORY:
        del common["addr"]
        yield common | {"action": "oom", "device_free": explanation.card.usable_bytes - entry.reserved_bytes}
    elif entry.action is Action.ALLOC:
        yield common | {"action": "alloc", "user_metadata": explanation.category_of[entry.key].value}
    else:
        yield common | {"action": entry.action.value}


def _frames(source: Source) -> list[dict[str, Any]]:
    """The operation, as PyTorch shows its own C++ frames, and then the user's lines."""
    operation = {"filename": "??", "line": 0, "name": source.op.replace(".", "::", 1)}
    lines = [{"filename": frame.file, "line": frame.line, "name": frame.function} for frame in source.stack]
    return [operation, *lines]


def _segment(explanation: Explanation, segment: SegmentState) -> dict[str, Any]:
    in_use = [block for block in segment.blocks if block.in_use]
    allocated_bytes = sum(block.size_bytes for block in in_use)
    return _PLACE | {
        "address": segment.address,
        "total_size": segment.size_bytes,
        "allocated_size": allocated_bytes,
        "active_size": allocated_bytes,
        "requested_size": sum(block.requested_bytes for block in in_use),
        "segment_type": "small" if segment.is_small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": segment.is_expandable,
        "frames": [],
        "blocks": [
            {
                "address": block.address,
                "size": block.size_bytes,
                "requested_size": block.requested_bytes,
                "state": "active_allocated" if block.in_use else "inactive",
                "frames": [] if block.key is None else _frames(explanation.sources[block.key]),
            }
            for block in segment.blocks
        ],
    }
