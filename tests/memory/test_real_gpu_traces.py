"""Memory histories recorded on real GPUs: every allocation must get the very address the card's process got.

The files are other people's and stay outside the repository: without them these tests are skipped.
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from bench.memory.allocator.caching import BlockState, CachingAllocator, SegmentState, round_size

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "real_gpu"
NAMES = ["cnn_conv_bn_pool", "transformer_course", "transformer_forward"]
SMALL_SEGMENT = 2 << 20
UNLIMITED = 1 << 50


def segments_of(initial: dict[str, Any]) -> list[SegmentState]:
    """The segments a trace starts from, their gaps filled with free blocks; a live block's key is its address."""
    segments = []
    for start, size in initial["segments"]:
        blocks = []
        cursor, end = start, start + size
        for address, block_size, requested in sorted(initial["active"]):
            if start <= address < end:
                if address > cursor:
                    blocks.append(BlockState(cursor, address - cursor, 0, None))
                block_size = block_size or round_size(requested)
                blocks.append(BlockState(address, block_size, requested, address))
                cursor = address + block_size
        if cursor < end:
            blocks.append(BlockState(cursor, end - cursor, 0, None))
        segments.append(SegmentState(start, size, size == SMALL_SEGMENT, False, tuple(blocks)))
    return segments


@pytest.mark.parametrize("name", NAMES)
def test_every_address_is_the_recorded_one(name: str) -> None:
    path = TRACES / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: recorded traces are not part of the repository")
    with gzip.open(path) as file:
        trace = json.load(file)
    recorded = deque((address, size) for kind, address, size, *_ in trace["events"] if kind == "segment_alloc")

    def segment_address(size_bytes: int) -> int:
        address, size = recorded.popleft()
        assert size_bytes == size
        return int(address)

    allocator = CachingAllocator(UNLIMITED, segment_address=segment_address)
    allocator.restore(segments_of(trace["initial"]))
    wrong = []
    previous = None
    for index, (kind, address, size, *_) in enumerate(trace["events"]):
        if kind == "alloc":
            got = allocator.malloc(address, size)
            if got != address:
                wrong.append((index, address, got))
        elif kind == "free":
            allocator.free(address)
        elif kind == "segment_free" and previous != "segment_free":  # one empty_cache frees several segments
            allocator.empty_cache()
        previous = kind
    assert wrong == []
    assert not recorded
    assert {"reserved": allocator.reserved_bytes, "allocated": allocator.allocated_bytes} == trace["final"]
