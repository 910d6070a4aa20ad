"""Sizes, blocks, pools and the device: what the caching allocator works on. All sizes are bytes.

Source: ``Block``, ``BlockPool``, ``round_size`` and ``get_allocation_size`` in c10/cuda/CUDACachingAllocator.cpp;
constants in c10/core/AllocatorConfig.h.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

MIN_BLOCK = 512  # kMinBlockSize: every size is a multiple of it
SMALL_SIZE = 1 << 20  # kSmallSize: the largest rounded size that goes to the small pool
SMALL_BUFFER = 2 << 20  # kSmallBuffer: a segment, or page, of the small pool
MIN_LARGE_ALLOC = 10 << 20  # kMinLargeAlloc: from here on a segment is made to measure
LARGE_BUFFER = 20 << 20  # kLargeBuffer: a segment below MIN_LARGE_ALLOC, or page, of the large pool
ROUND_LARGE = 2 << 20  # kRoundLarge: segments made to measure are a multiple of it

LIVE, CACHED, UNMAPPED = range(3)  # states of a block; UNMAPPED: addresses of an expandable segment without memory

_FIRST_ADDRESS = 0x7F00_0000_0000
_creation_order = count()


def round_size(size_bytes: int, divisions: tuple[int, ...] | None = None) -> int:
    """The size of the block that serves a request: a multiple of 512, or of 1/d of a power of two.

    Args:
        size_bytes: What was asked for, at least 1.
        divisions: ``AllocatorConfig.divisions``: d for every power of two from 1 MiB up; None: multiples of 512.
    """
    if divisions is not None:
        log2 = size_bytes.bit_length() - 1
        d = divisions[min(max(log2 - 20, 0), len(divisions) - 1)]
        if d > 1 and size_bytes > MIN_BLOCK * d:
            step = (1 << log2) // d
            return (size_bytes + step - 1) // step * step
    return (size_bytes + MIN_BLOCK - 1) // MIN_BLOCK * MIN_BLOCK


def allocation_size(size: int) -> int:
    """The size of the segment made for a block of ``size`` bytes."""
    if size <= SMALL_SIZE:
        return SMALL_BUFFER
    if size < MIN_LARGE_ALLOC:
        return LARGE_BUFFER
    return (size + ROUND_LARGE - 1) // ROUND_LARGE * ROUND_LARGE


class Block:
    """A range of addresses in a segment.

    Attributes:
        address: First byte.
        size: Bytes, a multiple of 512.
        requested: Bytes asked for when it was last handed out.
        pool: The pool it came from and returns to.
        state: LIVE, CACHED or UNMAPPED.
        previous: Neighbour before it in the same segment, or None.
        next: Neighbour after it in the same segment, or None.
        serial: Grows with every block created.
        cached_at: ``pool.searches`` when it was last put into the pool: its age in garbage collection.
    """

    __slots__ = ("address", "cached_at", "next", "pool", "previous", "requested", "serial", "size", "state")

    def __init__(self, address: int, size: int, pool: Pool, state: int) -> None:
        self.address = address
        self.size = size
        self.requested = 0
        self.pool = pool
        self.state = state
        self.previous: Block | None = None
        self.next: Block | None = None
        self.serial = next(_creation_order)
        self.cached_at = 0

    @property
    def is_split(self) -> bool:
        """Whether it shares its segment with other blocks."""
        return self.previous is not None or self.next is not None

    def split_front(self, size: int) -> Block:
        """Cut the first ``size`` bytes off as a new block, linked before this one, which keeps the rest."""
        front = Block(self.address, size, self.pool, self.state)
        previous = self.previous
        if previous is not None:
            front.previous = previous
            previous.next = front
        front.next = self
        self.previous = front
        self.address += size
        self.size -= size
        return front

    def split_back(self, size: int) -> Block:
        """Cut the last ``size`` bytes off as a new block, linked after this one, which keeps the rest."""
        back = Block(self.address + self.size - size, size, self.pool, self.state)
        following = self.next
        if following is not None:
            back.next = following
            following.previous = back
        back.previous = self
        self.next = back
        self.size -= size
        return back

    def absorb_previous(self, previous: Block) -> None:
        """Take over the range of the neighbour before it."""
        self.address = previous.address
        self.size += previous.size
        self.previous = previous.previous
        if self.previous is not None:
            self.previous.next = self

    def absorb_next(self, following: Block) -> None:
        """Take over the range of the neighbour after it."""
        self.size += following.size
        self.next = following.next
        if self.next is not None:
            self.next.previous = self


class Pool:
    """The cached free blocks of one size class, smallest first.

    Blocks of equal size stand by address; in PyTorch 2.12 alone by creation.

    Attributes:
        is_small: The pool of sizes up to 1 MiB, or that of the larger ones.
        min_remainder: The least rest of a split block worth keeping, in bytes.
        free: Sorted (size, tie-break, block).
        unmapped: The unmapped blocks of expandable segments, by address.
        searches: Searches made in it while garbage collection is on (get_free_blocks_call_count).
    """

    def __init__(self, *, is_small: bool, min_remainder: int, ties_by_creation: bool) -> None:
        self.is_small = is_small
        self.min_remainder = min_remainder
        self.free: list[tuple[int, int, Block]] = []
        self.unmapped: list[Block] = []
        self.searches = 0
        self._ties_by_creation = ties_by_creation

    def lower_bound(self, size: int) -> int:
        """Position in ``free`` of the first block of ``size`` bytes or more."""
        return bisect_left(self.free, (size,))

    def take_best(self, size: int) -> Block | None:
        """Take out the smallest block of ``size`` bytes or more, the first of equal ones; None if there is none."""
        free = self.free
        index = bisect_left(free, (size,))
        return free.pop(index)[2] if index < len(free) else None

    def insert(self, block: Block) -> None:
        """Put a free block in its place."""
        block.cached_at = self.searches
        insort(self.free, (block.size, block.serial if self._ties_by_creation else block.address, block))

    def remove(self, block: Block) -> None:
        """Take a block out; its size and address must be those it was inserted with."""
        free, tie = self.free, block.serial if self._ties_by_creation else block.address
        del free[bisect_left(free, (block.size, tie))]


class DeviceMemory:
    """The memory of one device: counts bytes and hands out addresses, as the CUDA driver does.

    Args:
        total_bytes: Capacity.
        segment_address: Address for a new segment of so many bytes; by default ascending ones.
    """

    def __init__(self, total_bytes: int, segment_address: Callable[[int], int] | None = None) -> None:
        self.total_bytes = total_bytes
        self.reserved_bytes = 0
        self.peak_reserved_bytes = 0
        self.segment_address = segment_address or self.reserve_addresses
        self.next_address = _FIRST_ADDRESS

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes (cudaMalloc, cuMemCreate); False when the device is full."""
        reserved = self.reserved_bytes + size
        if reserved > self.total_bytes:
            return False
        self.reserved_bytes = reserved
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, reserved)
        return True

    def give_back(self, size: int) -> None:
        """Return ``size`` bytes (cudaFree, cuMemUnmap)."""
        self.reserved_bytes -= size

    def reserve_addresses(self, size: int, alignment: int = SMALL_BUFFER) -> int:
        """The next unused range of ``size`` bytes, aligned; addresses only grow."""
        address = -(-self.next_address // alignment) * alignment
        self.next_address = address + size
        return address


@dataclass(frozen=True)
class BlockState:
    """A block as a snapshot shows it; a free one has no key and 0 requested bytes."""

    address: int
    size_bytes: int
    requested_bytes: int
    key: int | None

    @property
    def in_use(self) -> bool:
        """Whether an allocation lives in it."""
        return self.key is not None


@dataclass(frozen=True)
class SegmentState:
    """A segment (of an expandable one: a mapped range) as a snapshot shows it, tiled by its blocks in order."""

    address: int
    size_bytes: int
    is_small: bool
    is_expandable: bool
    blocks: tuple[BlockState, ...]
