"""A memory history, read from a file.

Three kinds: the pickle that `torch.cuda.memory._dump_snapshot` writes; the same told in JSON, compressed (`initial`,
`events`, `final`); and the sequences that hold the simulated allocator (tests/golden/allocator). PyTorch's format is
described in torch/cuda/memory.py (https://github.com/pytorch/pytorch/blob/main/torch/cuda/memory.py).

A snapshot has the end of its history, and every event: what was there at the beginning is found by undoing them.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.files import read_regular
from bench.histories.pickles import NotPlainError, plain_data
from bench.memory.allocator.blocks import BlockState, SegmentState, round_size
from bench.memory.allocator.caching import CachingAllocator
from bench.units import GiB, MiB, format_bytes

LARGEST_BYTES = 2 * GiB
_SMALL_SEGMENT_BYTES = 2 * MiB
_ENDLESS_BYTES = 1 << 60


class Happening(NamedTuple):
    """One entry of a history.

    `action` is "alloc", "free", "segment_alloc" or "segment_free"; `op` and `place` are known of allocations, where the
    file tells them: the operation, and the innermost line of the user's program.
    """

    action: str
    address: int
    size_bytes: int
    op: str = ""
    place: str = ""


class Active(NamedTuple):
    """A block in use; `block_bytes` is None where only what was asked for is known."""

    address: int
    block_bytes: int | None
    requested_bytes: int


@dataclass(frozen=True)
class History:
    """What happened on one device, from a state on; `torch` is the release that wrote it, where the file says so."""

    segments: Sequence[tuple[int, int]]
    active: Sequence[Active]
    happenings: Sequence[Happening]
    device: int
    torch: str | None

    def events(self) -> list[Happening]:
        """Its allocations and frees, in order."""
        return [happening for happening in self.happenings if happening.action in ("alloc", "free")]

    def peaks(self) -> tuple[int, int]:
        """The most bytes allocated and reserved at any time: blocks as PyTorch's allocator makes them, its segments."""
        allocator = CachingAllocator(_ENDLESS_BYTES)
        allocator.restore(self._states())
        reserved = most_reserved = sum(size for _, size in self.segments)
        previous = ""
        for action, address, size_bytes, *_ in self.happenings:
            if action == "alloc":
                allocator.malloc(address, size_bytes)
            elif action == "free":
                allocator.free(address)
            elif action == "segment_alloc":
                reserved += size_bytes
                most_reserved = max(most_reserved, reserved)
            else:
                reserved -= size_bytes
                if previous != action:  # one empty_cache frees several segments
                    allocator.empty_cache()
            previous = action
        return allocator.peak_allocated_bytes, most_reserved

    def _states(self) -> list[SegmentState]:
        """The segments at the beginning, their gaps filled with free blocks; a block's key is its address."""
        active = sorted(self.active)
        states = []
        for start, size in self.segments:
            blocks: list[BlockState] = []
            cursor = start
            for each in active:
                if start <= each.address < start + size:
                    if each.address > cursor:
                        blocks.append(BlockState(cursor, each.address - cursor, 0, None))
                    block_bytes = each.block_bytes or round_size(each.requested_bytes)
                    blocks.append(BlockState(each.address, block_bytes, each.requested_bytes, each.address))
                    cursor = each.address + block_bytes
            if cursor < start + size:
                blocks.append(BlockState(cursor, start + size - cursor, 0, None))
            states.append(SegmentState(start, size, size == _SMALL_SEGMENT_BYTES, False, tuple(blocks)))
        return states


def read(path: Path) -> History:
    """The history in a file.

    Raises:
        UsageError: there is none, or it is none that can be used; the message says why.
    """
    try:
        content = read_regular(path, LARGEST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        is_json = content[:2] == b"\x1f\x8b"
        history = _of_json(json.loads(_decompressed(content))) if is_json else _of_snapshot(plain_data(content))
        _refuse_contradictions(history)
        return history
    except NotPlainError as error:
        raise UsageError(f"{path} is no memory snapshot of PyTorch's ({error})") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no memory history: it is damaged, or no compressed JSON") from error
    except _UnusableError as error:
        raise UsageError(f"{path} {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path} is no memory snapshot of PyTorch's: {type(error).__name__} {error}") from error


class _UnusableError(Exception):
    """A history that cannot be used; the text goes on from the file's name."""


def _decompressed(content: bytes) -> bytes:
    """What a gzip file has in it.

    Raises:
        _UnusableError: more than would be read of a file that is not compressed.
    """
    with gzip.open(io.BytesIO(content)) as file:
        found = file.read(LARGEST_BYTES + 1)
    if len(found) > LARGEST_BYTES:
        raise _UnusableError(f"has more than {format_bytes(LARGEST_BYTES)} in it once it is decompressed")
    return found


def _refuse_contradictions(history: History) -> None:
    """See that blocks are where there is memory, and that what comes and goes is not, or is, there.

    Raises:
        _UnusableError: it is otherwise.
    """
    live = {each.address for each in history.active}
    inside = sum(start <= each.address < start + size for each in history.active for start, size in history.segments)
    if inside != len(history.active):
        raise _UnusableError("contradicts itself: at its beginning, blocks are outside of all segments, or in several")
    for number, (action, address, size_bytes, *_) in enumerate(history.happenings):
        if size_bytes < 0 or (action == "alloc" and address in live) or (action == "free" and address not in live):
            raise _UnusableError(f"contradicts itself at entry {number}: {action} of {size_bytes} bytes at {address}")
        (live.add if action == "alloc" else live.discard)(address)


def _of_json(data: Mapping[str, Any]) -> History:
    """A history in JSON."""
    if "initial" not in data:
        return _of_sequence(data)
    segments = [(int(address), int(size)) for address, size in data["initial"]["segments"]]
    active = [Active(int(address), block, int(size)) for address, block, size in data["initial"]["active"]]
    happenings = [Happening(event[0], event[1], event[2], *event[3:4]) for event in data["events"]]
    return History(segments, active, happenings, 0, data.get("torch"))


def _of_sequence(data: Mapping[str, Any]) -> History:
    """A random sequence of the allocator's tests: keys in place of addresses, nothing at the beginning."""
    sizes: dict[int, int] = {}
    happenings = []
    answered = data["expected"]
    for event, answer in zip(data["events"], answered, strict=True):
        if event[0] == "a" and answer is not None:
            sizes[event[1]] = event[2]
            happenings.append(Happening("alloc", event[1], event[2]))
        elif event[0] == "f" and event[1] in sizes:
            happenings.append(Happening("free", event[1], sizes.pop(event[1])))
    return History([], [], happenings, 0, data["torch"])


def _of_snapshot(data: Any) -> History:
    """A snapshot of `torch.cuda.memory._snapshot`."""
    if not isinstance(data, dict) or "device_traces" not in data or "segments" not in data:
        raise NotPlainError("it has no segments and device_traces")
    with_events = [device for device, trace in enumerate(data["device_traces"]) if trace]
    if not with_events:
        raise _UnusableError(
            "has no history, only a state: call torch.cuda.memory._record_memory_history() before the step"
        )
    if len(with_events) > 1:
        raise _UnusableError(f"is of several devices ({', '.join(map(str, with_events))}), expected one")
    (device,) = with_events
    happenings = [found for entry in data["device_traces"][device] if (found := _happening(entry))]
    of_device = [segment for segment in data["segments"] if segment.get("device", 0) == device]
    segments = {int(segment["address"]): int(segment["total_size"]) for segment in of_device}
    active = {each.address: each for segment in of_device for each in _active(segment)}
    for happening in reversed(happenings):
        action, address, size_bytes, *_ = happening
        if action == "alloc":
            active.pop(address, None)
        elif action == "free":
            active[address] = Active(address, None, size_bytes)
        elif action == "segment_alloc":
            segments.pop(address, None)
        else:
            segments[address] = size_bytes
    return History(sorted(segments.items()), sorted(active.values()), happenings, device, data.get("torch"))


def _happening(entry: Mapping[str, Any]) -> Happening | None:
    """An entry of a device's trace; None where it changes nothing."""
    action = {"free_completed": "free"}.get(entry["action"], entry["action"])
    if action in ("segment_map", "segment_unmap"):
        raise _UnusableError("was recorded with expandable_segments, whose addresses cannot be followed")
    if action not in ("alloc", "free", "segment_alloc", "segment_free"):
        return None
    place = _place(entry.get("frames", ())) if action == "alloc" else ""
    return Happening(action, int(entry["addr"]), int(entry["size"]), "", place)


def _active(segment: Mapping[str, Any]) -> list[Active]:
    """The blocks in use of a segment; they tile it in order."""
    found = []
    address = int(segment["address"])
    for block in segment["blocks"]:
        size = int(block["size"])
        if block["state"].startswith("active"):
            found.append(Active(address, size, int(block.get("requested_size", size))))
        address += size
    return found


def _place(frames: Sequence[Mapping[str, Any]]) -> str:
    """The innermost line of the user's program: of a Python file that is not of PyTorch."""
    for frame in frames:
        file = frame["filename"].replace("\\", "/")
        if file.endswith(".py") and "/torch/" not in file and "/site-packages/" not in file:
            return f"{file.rsplit('/', 1)[-1]}:{frame['line']}"
    return ""
