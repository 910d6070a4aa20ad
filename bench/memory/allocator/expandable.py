"""``expandable_segments:True``: one range of addresses per pool that grows by pages mapped on demand.

Source: Note [Expandable Segments], ``find_expandable_block``, ``map_block``, ``try_allocate_expandable_block`` and
``unmap_block`` in c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter

from bench.memory.allocator.blocks import CACHED, LARGE_BUFFER, LIVE, SMALL_BUFFER, UNMAPPED, Block, DeviceMemory, Pool
from bench.memory.allocator.history import Action

_by_address = attrgetter("address")


class ExpandableSegments:
    """Backs the blocks of both pools with pages: 2 MiB in the small pool, 20 MiB in the large one.

    `tell` is called with what was done to a range of pages, its address and its size.
    """

    def __init__(self, device: DeviceMemory, tell: Callable[[Action, int, int], None]) -> None:
        self._device = device
        self._tell = tell

    def best_fit(self, pool: Pool, index: int) -> int:
        """Refine ``lower_bound``: what counts is the size a block could grow to, not the one it has."""
        free = pool.free
        while index + 1 < len(free) and _expandable_size(free[index + 1][2]) < _expandable_size(free[index][2]):
            index += 1
        return index

    def allocate(self, pool: Pool, size: int) -> Block | None:
        """Map what is missing for a block of ``size`` bytes or more (try_allocate_expandable_block).

        Returns:
            The block, out of the pool; None when the device is full (pages mapped until then stay mapped).
        """
        block = self._find(pool, size)
        if block.state == UNMAPPED and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:  # a free block, then an unmapped one, which absorbs it once mapped
            following = block.next
            assert following is not None
            if not self._map(following, min(size - block.size, following.size)):
                return None
            block = following
        pool.remove(block)
        return block

    def release(self, pool: Pool) -> None:
        """Unmap every page that no live block touches (release_blocks)."""
        for _, _, block in list(pool.free):
            self._unmap(block)

    def _find(self, pool: Pool, size: int) -> Block:
        """The lowest address from which free and unmapped blocks add up to ``size`` (find_expandable_block)."""
        for block in pool.unmapped:
            start = block.previous if block.previous is not None and block.previous.state == CACHED else block
            room = 0
            end: Block | None = start
            while end is not None and end.state != LIVE and room < size:
                room += end.size
                end = end.next
            if room >= size:
                return start
        page = _page_bytes(pool)
        total = self._device.total_bytes  # a segment spans 9/8 of the device in whole pages, at least one
        span = -(-max(total + total // 8, 1) // page) * page
        segment = Block(self._device.reserve_addresses(span, page), span, pool, UNMAPPED)
        insort(pool.unmapped, segment, key=_by_address)
        return segment

    def _map(self, block: Block, size: int) -> bool:
        """Back the first ``size`` bytes of an unmapped block, in whole pages; all of them or none (map_block)."""
        pool = block.pool
        page = _page_bytes(pool)
        mapped = -(-size // page) * page
        if not self._device.take(mapped):
            return False
        pool.unmapped.remove(block)
        if mapped < block.size:
            insort(pool.unmapped, block.split_back(block.size - mapped), key=_by_address)
        address = block.address
        block.state = CACHED
        _merge(block)
        pool.insert(block)
        self._tell(Action.SEGMENT_MAP, address, mapped)
        return True

    def _unmap(self, block: Block) -> None:
        """Return the pages that lie wholly inside a free block to the device (unmap_block)."""
        pool = block.pool
        page = _page_bytes(pool)
        begin = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if begin >= end:
            return
        pool.remove(block)
        if begin > block.address:
            pool.insert(block.split_front(begin - block.address))
        if end < block.address + block.size:
            pool.insert(block.split_back(block.address + block.size - end))
        self._device.give_back(end - begin)
        block.state = UNMAPPED
        _merge(block)
        if block.is_split:
            insort(pool.unmapped, block, key=_by_address)  # otherwise nothing of the segment is left: forget it
        self._tell(Action.SEGMENT_UNMAP, begin, end - begin)


def _merge(block: Block) -> None:
    """Absorb the neighbours that are in the same state, free or unmapped (try_merge_blocks)."""
    pool = block.pool
    forget = pool.remove if block.state == CACHED else pool.unmapped.remove
    previous, following = block.previous, block.next
    if previous is not None and previous.state == block.state:
        forget(previous)
        block.absorb_previous(previous)
    if following is not None and following.state == block.state:
        forget(following)
        block.absorb_next(following)


def _expandable_size(block: Block) -> int:
    """Bytes of a free block and of the unmapped one after it."""
    following = block.next
    return block.size + (following.size if following is not None and following.state == UNMAPPED else 0)


def _page_bytes(pool: Pool) -> int:
    return SMALL_BUFFER if pool.is_small else LARGE_BUFFER
