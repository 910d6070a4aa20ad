"""What the allocator's books say: addresses, restored snapshots, what an observer is told, options to the letter."""

import pytest

from bench.memory.allocator.alloc_conf import AllocatorConfig
from bench.memory.allocator.blocks import BlockState, DeviceMemory, SegmentState, round_size
from bench.memory.allocator.caching import CachingAllocator
from bench.memory.allocator.history import Action
from bench.memory.environment import ALLOC_CONF, alloc_conf
from bench.units import GiB, MiB


def test_addresses_are_aligned_and_follow_one_another():
    device = DeviceMemory(GiB)
    first = device.reserve_addresses(3)
    assert first % (2 * MiB) == 0
    assert device.reserve_addresses(20 * MiB) == first + 2 * MiB
    assert device.reserve_addresses(1, 32 * MiB) == first + 32 * MiB


def test_new_segments_lie_behind_all_that_are_restored():
    low, high = 64 * MiB, 512 * MiB
    allocator = CachingAllocator(GiB)
    allocator.restore(
        [
            SegmentState(
                at + 0x7F00_0000_0000, 20 * MiB, False, False, (BlockState(at + 0x7F00_0000_0000, 20 * MiB, n, key),)
            )
            for at, n, key in ((high, 20 * MiB - 5, 1), (low, 0, None))
        ]
    )
    assert allocator.allocated_bytes == allocator.peak_allocated_bytes == 20 * MiB
    assert allocator.malloc(2, 20 * MiB) == 0x7F00_0000_0000 + low
    assert allocator.malloc(3, 20 * MiB) == 0x7F00_0000_0000 + high + 20 * MiB


def test_a_free_block_was_asked_for_by_nobody():
    allocator = CachingAllocator(GiB)
    allocator.malloc(1, 1000)
    allocator.free(1)
    ((block,),) = (segment.blocks for segment in allocator.snapshot())
    assert (block.size_bytes, block.requested_bytes, block.key, block.in_use) == (2 * MiB, 0, None, False)


def test_segments_have_no_key():
    told = []
    allocator = CachingAllocator(GiB, observer=told.append)
    allocator.malloc(7, 5000)
    allocator.free(7)
    allocator.empty_cache()
    assert [(entry.action, entry.key, entry.size_bytes) for entry in told] == [
        (Action.SEGMENT_ALLOC, -1, 2 * MiB),
        (Action.ALLOC, 7, 5000),
        (Action.FREE, 7, 5000),
        (Action.SEGMENT_FREE, -1, 2 * MiB),
    ]


def test_below_the_first_and_beyond_the_last_power_of_two_the_nearest_division_counts():
    divisions = (4, *[1] * 14, 8)
    assert round_size(700_000, divisions) == 6 * 2**17
    assert round_size(3 * MiB + 1, divisions) == 3 * MiB + 512
    assert round_size(2**40 + 1, divisions) == 9 * 2**37


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("[>:4]", (0, *[4] * 15)),
        ("[1:0,>:2]", (0, *[2] * 15)),
        ("[4:8,>:0]", (8, 8, 8, *[0] * 13)),
        ("[2:4,8:2]", (4, 4, 0, 2, *[0] * 12)),
    ],
)
def test_a_table_of_divisions_to_the_letter(text, table):
    assert AllocatorConfig.parse(f"roundup_power2_divisions:{text}").roundup_power2_divisions == table


def test_a_list_has_both_brackets():
    with pytest.raises(ValueError, match="a power of two"):
        AllocatorConfig.parse("roundup_power2_divisions:[256:12")


def test_the_variable_that_the_allocator_obeys():
    first, second = ALLOC_CONF
    assert alloc_conf({}) is None
    assert alloc_conf({first: " ", second: "max_split_size_mb:64"}) is None
    assert alloc_conf({second: "max_split_size_mb:64"}) == (second, "max_split_size_mb:64")
    assert alloc_conf({first: "a", second: "b"}) == (first, "a")
