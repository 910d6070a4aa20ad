"""Memory histories that strangers recorded on their cards, and the steps that they are of, rebuilt.

The histories are other people's and not part of the repository: `read` finds them in the folder that BENCH_HISTORIES
names, or else beside the checkout.
"""

import gzip
import json
import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

from bench.memory.allocator.caching import FREE, BlockState, CachingAllocator, SegmentState, round_size

from . import adapters, counterfactual, transformer

SMALL_SEGMENT = 2 << 20
UNLIMITED = 1 << 50

FOLDER = Path(os.environ.get("BENCH_HISTORIES") or Path(__file__).parents[3] / "shared/golden/real_gpu")
BATCH = transformer.BATCH
STEPS = {
    "transformer_forward": transformer.forward_128,
    "memory_ctx512_forward_mixed": transformer.forward_512_mixed,
    "memory_ctx128_fullstep": transformer.full_step_128,
    "memory_ctx256_fullstep_": transformer.full_step_256,
    "memory_ctx512_fullstep_": transformer.full_step_512,
}
ON_TURING = {"cnn_conv_bn_pool": counterfactual.change_image}
ON_AMPERE = {"transformer_course": adapters.forward_and_backward}


class History(NamedTuple):
    """Allocations (bytes) and frees (-bytes) in order, and the most in blocks and in segments at any time."""

    events: list[int]
    peak_allocated_bytes: int
    peak_reserved_bytes: int


def read(name):
    """A history; None where its file is not there.

    How large blocks are is not told of all: PyTorch's allocator, replayed, knows.
    """
    path = FOLDER / f"{name}.json.gz"
    if not path.exists():
        return None
    with gzip.open(path) as file:
        told = json.load(file)
    asked = {address: requested for address, _, requested in told["initial"]["active"]}
    events = []
    for kind, address, size, *_ in told["events"]:
        if kind == "alloc":
            asked[address] = size
            events.append(size)
        elif kind == "free":
            events.append(-asked.pop(address))
    allocator, wrong = replayed(told)
    assert not wrong
    return History(events, allocator.peak_allocated_bytes, allocator.peak_reserved_bytes)


def replayed(told):
    """The allocator after a history, and the allocations that got another address: (event, recorded, got)."""
    recorded = deque((address, size) for kind, address, size, *_ in told["events"] if kind == "segment_alloc")

    def segment_address(size_bytes):
        address, size = recorded.popleft()
        assert size_bytes == size
        return address

    allocator = CachingAllocator(UNLIMITED, segment_address=segment_address)
    allocator.restore(segments_of(told["initial"]))
    wrong = []
    previous = None
    for index, (kind, address, size, *_) in enumerate(told["events"]):
        if kind == "alloc":
            got = allocator.malloc(address, size)
            if got != address:
                wrong.append((index, address, got))
        elif kind == "free":
            allocator.free(address)
        elif kind == "segment_free" and previous != "segment_free":  # one empty_cache frees several segments
            allocator.empty_cache()
        previous = kind
    assert not recorded
    return allocator, wrong


def segments_of(initial):
    """The segments a history starts from, their gaps filled with free blocks; a live block's key is its address."""
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


def signed(events):
    """A card's events, (key, bytes) or (key, FREE), as those of a history."""
    sizes = dict(event for event in events if event[1] is not FREE)
    return [-sizes[key] if size is FREE else size for key, size in events]
