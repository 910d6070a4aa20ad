"""The caching allocator with a diary: every allocation, free, segment and out of memory, in order."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import NamedTuple

from bench.memory.allocator.blocks import Block, Pool
from bench.memory.allocator.caching import AllocatorConfig, CachingAllocator, OutOfMemory
from bench.memory.allocator.expandable import ExpandableSegments


class Action(str, Enum):
    """What happened, by the names of PyTorch's own memory snapshots."""

    ALLOC = "alloc"
    FREE = "free"
    SEGMENT_ALLOC = "segment_alloc"
    SEGMENT_FREE = "segment_free"
    SEGMENT_MAP = "segment_map"  # a range of pages of an expandable segment
    SEGMENT_UNMAP = "segment_unmap"
    OUT_OF_MEMORY = "oom"


class Entry(NamedTuple):
    """One thing that happened, and how much was allocated and reserved after it.

    `size_bytes` is what was asked for, of a segment or its pages their size; `key` is -1 for those.
    """

    action: Action
    key: int
    address: int
    size_bytes: int
    allocated_bytes: int
    reserved_bytes: int


class DiaryAllocator(CachingAllocator):
    """A CachingAllocator that writes down what it does.

    Attributes:
        history: The entries, in order.
    """

    def __init__(self, total_bytes: int, config: AllocatorConfig) -> None:
        super().__init__(total_bytes, config=config)
        self.history: list[Entry] = []
        if self._expandable:
            self._expandable = ExpandableSegments(
                self._device,
                on_mapped=partial(self._write, Action.SEGMENT_MAP, -1),
                on_unmapped=partial(self._write, Action.SEGMENT_UNMAP, -1),
            )

    def malloc(self, key: int, size_bytes: int) -> int:
        """Allocate, and write it down, also where it fails."""
        try:
            address = super().malloc(key, size_bytes)
        except OutOfMemory:
            self._write(Action.OUT_OF_MEMORY, key, 0, size_bytes)
            raise
        if size_bytes:
            self._write(Action.ALLOC, key, address, size_bytes)
        return address

    def free(self, key: int) -> None:
        """Free, and write it down."""
        block = self._live[key]
        address, size_bytes = (block.address, block.requested) if block else (0, 0)
        super().free(key)
        if block:
            self._write(Action.FREE, key, address, size_bytes)

    def _alloc_block(self, pool: Pool, size: int) -> Block | None:
        block = super()._alloc_block(pool, size)
        if block and not self._expandable:
            self._write(Action.SEGMENT_ALLOC, -1, block.address, block.size)
        return block

    def _release_block(self, block: Block) -> None:
        super()._release_block(block)
        self._write(Action.SEGMENT_FREE, -1, block.address, block.size)

    def _write(self, action: Action, key: int, address: int, size_bytes: int) -> None:
        self.history.append(Entry(action, key, address, size_bytes, self.allocated_bytes, self.reserved_bytes))
