"""PyTorch's CUDA caching allocator, replayed exactly: the same addresses, peaks, retries and out of memory.

One device, one stream, no CUDA graphs; all sizes are bytes.

Source: ``DeviceCachingAllocator`` in c10/cuda/CUDACachingAllocator.cpp. Methods carry its function names, and the
numbers in ``malloc`` are the steps in which PyTorch looks for memory:

1. best fit among the cached blocks of the pool;
2. under a cap with ``garbage_collection_threshold``: release old cached segments;
3. a new segment, unless the cap or the device forbids it;
4. with ``max_split_size_mb``: release oversize cached blocks, then 3 again;
5. release the whole cache, then 3 again: a retry;
6. out of memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from bench.memory.allocator.alloc_conf import AllocatorConfig
from bench.memory.allocator.blocks import (
    CACHED,
    LARGE_BUFFER,
    LIVE,
    MIN_BLOCK,
    SMALL_SIZE,
    UNMAPPED,
    Block,
    BlockState,
    DeviceMemory,
    Pool,
    SegmentState,
    allocation_size,
    round_size,
)
from bench.memory.allocator.expandable import ExpandableSegments
from bench.memory.allocator.history import Action, Entry, Observer

__all__ = [
    "FREE",
    "Act",
    "AllocatorConfig",
    "BlockState",
    "CachingAllocator",
    "OutOfMemory",
    "Replay",
    "SegmentState",
    "replay",
    "round_size",
]


class Act(Enum):
    """In place of the size of an event: what is done to the allocator, where nothing is allocated."""

    FREE = "free"
    EMPTY_CACHE = "empty_cache"


FREE: Final = Act.FREE

Sought = TypeVar("Sought")
"""What stands for a size that is found at the moment of the allocation."""


class OutOfMemory(Exception):  # noqa: N818 (the name torch.OutOfMemoryError minus its suffix)
    """An allocation that neither the cache nor the device could serve.

    Attributes:
        requested_bytes: What was asked for.
        allocated_bytes: In live blocks at that moment.
        reserved_bytes: In segments at that moment, after the cache was released.
        limit_bytes: The cap, or the device's capacity where there is none.
    """

    def __init__(self, requested_bytes: int, allocated_bytes: int, reserved_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"out of memory: requested {requested_bytes} bytes with {allocated_bytes} bytes allocated and "
            f"{reserved_bytes} bytes reserved of {limit_bytes} bytes"
        )
        self.requested_bytes = requested_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes
        self.limit_bytes = limit_bytes


class CachingAllocator:
    """The allocator of one device.

    Args:
        total_bytes: Capacity of the device left to the allocator.
        limit_bytes: The cap of ``set_per_process_memory_fraction``; None: no cap.
        config: Options and release.
        segment_address: Address to give to a new segment of so many bytes; by default ascending ones. Not asked
            for expandable segments.
        observer: Is told what happens.

    Attributes:
        allocated_bytes: In live blocks, rounding included.
        peak_allocated_bytes: The most that ``allocated_bytes`` has been.
        retries: Allocations that had to release the whole cache (``num_alloc_retries``).
        segments: Segments held; expandable segments do not count, as in ``torch.cuda.memory_stats``.
    """

    def __init__(
        self,
        total_bytes: int,
        *,
        limit_bytes: int | None = None,
        config: AllocatorConfig = AllocatorConfig(),  # noqa: B008 (frozen)
        segment_address: Callable[[int], int] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.config = config
        self.limit_bytes = limit_bytes
        self.allocated_bytes = 0
        self.peak_allocated_bytes = 0
        self.retries = 0
        self.segments = 0
        self._device = DeviceMemory(total_bytes, segment_address)
        self._observer = observer
        self._expandable = ExpandableSegments(self._device, self._tell) if config.expandable_segments else None
        by_creation = config.torch_version == (2, 12)
        large_remainder = MIN_BLOCK if config.expandable_segments else SMALL_SIZE + MIN_BLOCK
        self._small = Pool(is_small=True, min_remainder=MIN_BLOCK, ties_by_creation=by_creation)
        self._large = Pool(is_small=False, min_remainder=large_remainder, ties_by_creation=by_creation)
        self._live: dict[int, Block | None] = {}  # None: a 0-byte allocation
        self._divisions = config.divisions
        self._max_split = config.max_split_size_bytes or sys.maxsize
        self._collects_garbage = limit_bytes is not None and config.garbage_collection_threshold > 0.0
        self._is_plain = not (self._collects_garbage or self._expandable or config.max_split_size_bytes)

    @property
    def total_bytes(self) -> int:
        """Capacity of the device."""
        return self._device.total_bytes

    @property
    def reserved_bytes(self) -> int:
        """In segments, live or cached."""
        return self._device.reserved_bytes

    @property
    def peak_reserved_bytes(self) -> int:
        """The most that ``reserved_bytes`` has been."""
        return self._device.peak_reserved_bytes

    def malloc(self, key: int, size_bytes: int) -> int:
        """Allocate ``size_bytes`` under ``key``.

        Returns:
            The address; 0 for 0 bytes, which take nothing.

        Raises:
            OutOfMemory: Neither the cache nor the device can serve it.
            ValueError: The key is live already, or the size negative.
        """
        if key in self._live:
            raise ValueError(f"key {key} is allocated already: free it first")
        if size_bytes <= 0:
            if size_bytes < 0:
                raise ValueError(f"got a size of {size_bytes} bytes, expected 0 or more")
            self._live[key] = None
            return 0
        if self._divisions is None:  # round_size without a call
            size = (size_bytes + MIN_BLOCK - 1) // MIN_BLOCK * MIN_BLOCK
        else:
            size = round_size(size_bytes, self._divisions)
        pool = self._small if size <= SMALL_SIZE else self._large
        block = pool.take_best(size) if self._is_plain else self._get_free_block(pool, size)  # (1)
        if block is None:
            if self._collects_garbage:
                self._garbage_collect_cached_blocks()  # (2)
            block = (
                self._alloc_block(pool, size)  # (3)
                or (self._release_available_cached_blocks(pool, size) and self._alloc_block(pool, size))  # (4)
                or self._retry(pool, size)  # (5)
            )
            if not block:  # (6)
                self._tell(Action.OUT_OF_MEMORY, 0, size_bytes, key)
                limit = self.total_bytes if self.limit_bytes is None else self.limit_bytes
                raise OutOfMemory(size_bytes, self.allocated_bytes, self.reserved_bytes, limit)

        if block.size - size >= pool.min_remainder and size < self._max_split:  # should_split
            remaining = block
            block = remaining.split_front(size)
            pool.insert(remaining)
        block.state = LIVE
        block.requested = size_bytes
        self._live[key] = block
        self.allocated_bytes = allocated_bytes = self.allocated_bytes + block.size
        if allocated_bytes > self.peak_allocated_bytes:
            self.peak_allocated_bytes = allocated_bytes
        if self._observer:
            self._tell(Action.ALLOC, block.address, size_bytes, key)
        return block.address

    def free(self, key: int) -> None:
        """Put the block of ``key`` back into its pool, merged with its free neighbours (free_block).

        Raises:
            KeyError: The key is not live.
        """
        block = self._live.pop(key)
        if block is None:
            return
        self.allocated_bytes -= block.size
        if self._observer:
            self._tell(Action.FREE, block.address, block.requested, key)
        pool = block.pool
        previous, following = block.previous, block.next
        if previous is not None and previous.state == CACHED:
            pool.remove(previous)
            block.absorb_previous(previous)
        if following is not None and following.state == CACHED:
            pool.remove(following)
            block.absorb_next(following)
        block.state = CACHED
        pool.insert(block)

    def empty_cache(self) -> None:
        """Return every segment, or page, without live blocks to the device (release_cached_blocks)."""
        for pool in (self._large, self._small):
            if self._expandable:
                self._expandable.release(pool)
            else:
                for _, _, block in list(pool.free):
                    if not block.is_split:
                        self._release_block(block)

    def snapshot(self) -> list[SegmentState]:
        """The segments and their blocks, by address."""
        keys = {block: key for key, block in self._live.items() if block is not None}
        blocks = [*keys, *(block for pool in (self._small, self._large) for _, _, block in pool.free)]
        heads = [b for b in blocks if b.previous is None or b.previous.state == UNMAPPED]
        segments = []
        for head in sorted(heads, key=lambda block: block.address):
            members = []
            block: Block | None = head
            while block is not None and block.state != UNMAPPED:
                requested = block.requested if block.state == LIVE else 0
                members.append(BlockState(block.address, block.size, requested, keys.get(block)))
                block = block.next
            size = sum(member.size_bytes for member in members)
            is_small, is_expandable = head.pool.is_small, self._expandable is not None
            segments.append(SegmentState(head.address, size, is_small, is_expandable, tuple(members)))
        return segments

    def restore(self, segments: Iterable[SegmentState]) -> None:
        """Start from the segments of a snapshot; the allocator must be unused.

        Raises:
            ValueError: The allocator is in use, the segments do not fit it, or segments are expandable.
        """
        if self.reserved_bytes or self._expandable:
            raise ValueError("restore needs an unused allocator without expandable segments")
        for segment in segments:
            end = segment.address + segment.size_bytes
            if segment.is_expandable or not self._device.take(segment.size_bytes):
                raise ValueError(f"segment {segment.address:#x} is expandable or exceeds {self.total_bytes} bytes")
            self._device.next_address = max(self._device.next_address, end)
            self.segments += 1
            pool = self._small if segment.is_small else self._large
            previous: Block | None = None
            for state in segment.blocks:
                block = Block(state.address, state.size_bytes, pool, CACHED if state.key is None else LIVE)
                block.requested = state.requested_bytes
                block.previous = previous
                if previous is not None:
                    previous.next = block
                previous = block
                if state.key is None:
                    pool.insert(block)
                else:
                    self._live[state.key] = block
                    self.allocated_bytes += block.size
        self.peak_allocated_bytes = self.allocated_bytes

    def _get_free_block(self, pool: Pool, size: int) -> Block | None:
        """Step 1 with any option: best fit in the pool; taken out of it."""
        if self._collects_garbage:
            pool.searches += 1
        index = pool.lower_bound(size)
        if index == len(pool.free):
            return None
        if self._expandable:
            index = self._expandable.best_fit(pool, index)
        block = pool.free[index][2]
        if size < self._max_split <= block.size:
            return None  # an oversize block is not for a small request
        if size >= self._max_split and block.size >= size + LARGE_BUFFER:
            return None  # nor for one that would waste 20 MiB of it
        del pool.free[index]
        return block

    def _garbage_collect_cached_blocks(self) -> None:
        """Step 2: release the oldest unsplit blocks of the large pool while above the threshold."""
        assert self.limit_bytes is not None
        target = self.reserved_bytes - int(self.config.garbage_collection_threshold * self.limit_bytes)
        pool = self._large
        ages = {block: pool.searches - block.cached_at for _, _, block in pool.free if not block.is_split}
        reclaimed = 0
        while reclaimed < target and ages:
            mean_age = sum(ages.values()) / len(ages)  # at least one is as old, so every round releases some
            for block in [block for block, age in ages.items() if age >= mean_age]:
                del ages[block]
                reclaimed += block.size
                self._release_block(block)

    def _alloc_block(self, pool: Pool, size: int) -> Block | None:
        """Step 3: a new segment, unless the cap or the device forbids it."""
        segment_bytes = allocation_size(size)
        if self.limit_bytes is not None and self.reserved_bytes + segment_bytes > self.limit_bytes:
            return None
        if self._expandable:
            return self._expandable.allocate(pool, size)
        if not self._device.take(segment_bytes):
            return None
        self.segments += 1
        address = self._device.segment_address(segment_bytes)
        self._tell(Action.SEGMENT_ALLOC, address, segment_bytes)
        return Block(address, segment_bytes, pool, CACHED)

    def _release_available_cached_blocks(self, pool: Pool, size: int) -> bool:
        """Step 4: with max_split_size, release one oversize block that is large enough, or the largest ones."""
        if self._max_split == sys.maxsize:
            return False
        wanted = max(size, self._max_split)
        index = pool.lower_bound(wanted)
        if index < len(pool.free):
            self._release_block(pool.free[index][2])
            return True
        released = 0
        while released < wanted and pool.free and pool.free[-1][0] >= self._max_split:
            block = pool.free[-1][2]
            released += block.size
            self._release_block(block)
        return released >= wanted

    def _retry(self, pool: Pool, size: int) -> Block | None:
        """Step 5: release the whole cache and try a last time (release_cached_blocks, then alloc_block)."""
        self.empty_cache()
        self.retries += 1
        return self._alloc_block(pool, size)

    def _release_block(self, block: Block) -> None:
        """Return a whole segment to the device (cudaFree)."""
        block.pool.remove(block)
        self._device.give_back(block.size)
        self.segments -= 1
        self._tell(Action.SEGMENT_FREE, block.address, block.size)

    def _tell(self, action: Action, address: int, size_bytes: int, key: int = -1) -> None:
        """Tell the observer, if there is one, what has happened."""
        if self._observer:
            self._observer(Entry(action, key, address, size_bytes, self.allocated_bytes, self.reserved_bytes))


@dataclass(frozen=True)
class Replay:
    """What became of a sequence of events; ``failed_event`` is the index of the one that ran out of memory."""

    fits: bool
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    retries: int
    failed_event: int | None


def replay(
    events: Iterable[tuple[int, int | Act | Sought]],
    allocator: CachingAllocator,
    malloc_sought: Callable[[int, Sought], None] | None = None,
) -> Replay:
    """Run events through an allocator, up to the first out of memory.

    Args:
        events: (key, size in bytes): allocates that many bytes under the key. In place of a size an `Act` may stand,
            which frees the key or empties the cache, or something whose size is found when it is allocated.
        allocator: Where they run; its peaks and retries include what happened to it before.
        malloc_sought: Allocates under a key what is no size.
    """
    malloc, free = allocator.malloc, allocator.free
    failed_event = None
    for index, (key, size) in enumerate(events):
        if size is FREE:
            free(key)
            continue
        try:
            if isinstance(size, int):
                malloc(key, size)
            elif isinstance(size, Act):
                allocator.empty_cache()
            elif malloc_sought:
                malloc_sought(key, size)
        except OutOfMemory:
            failed_event = index
            break
    return Replay(
        fits=failed_event is None,
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        retries=allocator.retries,
        failed_event=failed_event,
    )
