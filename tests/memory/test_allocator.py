"""The allocator against what PyTorch's own compiled allocator answered, and against its own invariants."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.memory.allocator.caching import (
    FREE,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemory,
    Replay,
    replay,
    round_size,
)
from bench.memory.allocator.history import Action, Entry

MIB = 1 << 20
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "allocator").glob("*.json.gz"))


def name_of(path: Path) -> str:
    return path.name.removesuffix(".json.gz")


def load(path: Path) -> dict[str, Any]:
    with gzip.open(path) as file:
        trace: dict[str, Any] = json.load(file)
    return trace


def allocator_of(trace: dict[str, Any], torch_version: tuple[int, int] | None = None) -> CachingAllocator:
    major, minor = trace["torch"].split(".")[:2]
    fraction, total = trace["memory_fraction"], trace["total_bytes"]
    return CachingAllocator(
        total,
        limit_bytes=None if fraction == 1.0 else int(fraction * total),
        config=AllocatorConfig.parse(trace["alloc_conf"], torch_version or (int(major), int(minor))),
    )


def differences(trace: dict[str, Any], allocator: CachingAllocator) -> list[tuple[int, Any, Any]]:
    """(index of the event, expected, got) wherever the allocator answers otherwise than the trace."""
    found = []
    never_lived = set()
    for index, (event, expected) in enumerate(zip(trace["events"], trace["expected"], strict=True)):
        got: list[int] | None
        try:
            match event:
                case ["a", key, size]:
                    allocator.malloc(key, size)
                case ["f", key] if key not in never_lived:
                    allocator.free(key)
                case ["e"]:
                    allocator.empty_cache()
            got = [allocator.allocated_bytes, allocator.reserved_bytes, allocator.segments, allocator.retries]
        except OutOfMemory:
            never_lived.add(event[1])
            got = None
        if got != expected:
            found.append((index, expected, got))
    return found


def test_no_golden_trace_is_skipped() -> None:
    kinds = Counter(name_of(path).split("g_", 1)[1] for path in GOLDEN)
    assert kinds == {
        "default_torch2.12.0": 11,
        "default_torch2.13.0": 11,
        "expandable_segments_torch2.11.0": 11,
        "garbage_collection_threshold_torch2.13.0": 11,
        "max_split_size_mb_torch2.13.0": 11,
        "roundup_power2_divisions_torch2.13.0": 11,
    }
    assert len(GOLDEN) == 66


@pytest.mark.parametrize("path", GOLDEN, ids=name_of)
def test_golden_trace(path: Path) -> None:
    trace = load(path)
    allocator = allocator_of(trace)
    assert differences(trace, allocator) == []
    peak = {"allocated": allocator.peak_allocated_bytes, "reserved": allocator.peak_reserved_bytes}
    assert peak == trace["peak"]


@pytest.mark.parametrize(("torch", "other"), [("2.12.0", (2, 13)), ("2.13.0", (2, 12))])
def test_golden_traces_tell_the_tie_order_of_torch_2_12_apart(torch: str, other: tuple[int, int]) -> None:
    traces = [load(path) for path in GOLDEN if name_of(path).endswith(f"default_torch{torch}")]
    assert any(differences(trace, allocator_of(trace, torch_version=other)) for trace in traces)


@pytest.mark.parametrize(("release", "first"), [((2, 11), 1), ((2, 12), 0), ((2, 13), 1), ((2, 14), 1)])
def test_of_equal_blocks_the_lowest_is_taken_and_in_torch_2_12_the_oldest(release: tuple[int, int], first: int) -> None:
    addresses = [1 << 31, 1 << 30]
    left = iter(addresses)
    config = AllocatorConfig(torch_version=release)
    allocator = CachingAllocator(100 * MIB, config=config, segment_address=lambda _: next(left))
    for key in (0, 1):
        allocator.malloc(key, 20 * MIB)
    for key in (0, 1):
        allocator.free(key)
    assert allocator.malloc(2, 20 * MIB) == addresses[first]


def test_malloc_returns_the_lowest_best_fit() -> None:
    allocator = CachingAllocator(100 * MIB)
    first, second, third = (allocator.malloc(key, 1000) for key in (1, 2, 3))
    assert (second - first, third - second) == (1024, 1024)
    allocator.free(2)
    assert allocator.malloc(4, 1) == second  # its hole fits better than the tail of the segment
    assert allocator.allocated_bytes == 2 * 1024 + 512
    assert allocator.reserved_bytes == 2 * MIB


def test_zero_bytes_take_nothing() -> None:
    allocator = CachingAllocator(100 * MIB)
    assert allocator.malloc(1, 0) == 0
    assert (allocator.allocated_bytes, allocator.reserved_bytes, allocator.snapshot()) == (0, 0, [])
    allocator.free(1)


def test_misuse_is_refused() -> None:
    allocator = CachingAllocator(100 * MIB)
    allocator.malloc(1, 512)
    with pytest.raises(ValueError, match="key 1 is allocated already"):
        allocator.malloc(1, 512)
    with pytest.raises(ValueError, match="got a size of -7 bytes"):
        allocator.malloc(2, -7)
    with pytest.raises(KeyError):
        allocator.free(2)


def test_out_of_memory_says_what_was_there() -> None:
    allocator = CachingAllocator(100 * MIB, limit_bytes=50 * MIB)
    allocator.malloc(1, 30 * MIB)
    with pytest.raises(OutOfMemory, match="requested 31457280 bytes") as caught:
        allocator.malloc(2, 30 * MIB)
    error = caught.value
    figures = (error.requested_bytes, error.allocated_bytes, error.reserved_bytes, error.limit_bytes)
    assert figures == (30 * MIB, 30 * MIB, 30 * MIB, 50 * MIB)
    assert allocator.retries == 1


@pytest.mark.parametrize("expandable_segments", [False, True])
@pytest.mark.parametrize("total_bytes", [0, 2 * MIB - 1])
def test_a_device_too_small_for_one_segment(total_bytes: int, expandable_segments: bool) -> None:
    allocator = CachingAllocator(total_bytes, config=AllocatorConfig(expandable_segments=expandable_segments))
    for size_bytes in (1, 50 * MIB):
        with pytest.raises(OutOfMemory):
            allocator.malloc(1, size_bytes)
    assert allocator.reserved_bytes == 0


def test_replay_that_fits() -> None:
    events = [(1, 3 * MIB), (2, 700), (1, FREE), (3, 0), (3, FREE)]
    assert replay(events, CachingAllocator(100 * MIB)) == Replay(
        fits=True,
        peak_allocated_bytes=3 * MIB + 1024,
        peak_reserved_bytes=22 * MIB,
        retries=0,
        failed_event=None,
    )


def test_replay_stops_at_the_first_out_of_memory() -> None:
    events = [(1, 30 * MIB), (1, FREE), (2, 40 * MIB), (3, 20 * MIB), (4, 1)]
    result = replay(events, CachingAllocator(50 * MIB))
    assert (result.fits, result.failed_event, result.retries) == (False, 3, 2)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (40 * MIB, 40 * MIB)


def test_segments_can_be_placed_from_outside() -> None:
    asked = []

    def segment_address(size_bytes: int) -> int:
        asked.append(size_bytes)
        return 1 << 30 if len(asked) == 1 else 1 << 20

    allocator = CachingAllocator(100 * MIB, segment_address=segment_address)
    assert [allocator.malloc(1, 100), allocator.malloc(2, 2 * MIB)] == [1 << 30, 1 << 20]
    assert asked == [2 * MIB, 20 * MIB]


def test_expandable_segments_grow_in_place_and_give_pages_back() -> None:
    allocator = CachingAllocator(100 * MIB, config=AllocatorConfig(expandable_segments=True))
    first = allocator.malloc(1, 15 * MIB)
    assert allocator.reserved_bytes == 20 * MIB
    assert allocator.malloc(2, 30 * MIB) == first + 15 * MIB  # the 5 MiB left and two more pages
    assert (allocator.reserved_bytes, allocator.segments) == (60 * MIB, 0)
    allocator.free(1)
    allocator.empty_cache()  # no whole page of the 15 MiB is free; the last page's tail is not a whole page either
    assert allocator.reserved_bytes == 60 * MIB
    allocator.free(2)
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.snapshot()) == (0, [])


@pytest.mark.parametrize(
    ("size_bytes", "divisions", "expected"),
    [
        (1, 0, 512),
        (512, 0, 512),
        (513, 0, 1024),
        (5000, 0, 5120),
        (1200, 4, 1536),  # 4 * 512 or less: multiples of 512
        (9000, 4, 10240),
        (3 * MIB + 1, 4, 3 * MIB + MIB // 2),
        (4 * MIB, 4, 4 * MIB),
        (3 * MIB + 1, 1, 3 * MIB + 512),
    ],
)
def test_round_size(size_bytes: int, divisions: int, expected: int) -> None:
    assert round_size(size_bytes, AllocatorConfig(roundup_power2_divisions=divisions).divisions) == expected


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [  # intervals begin at 1 MiB (AcceleratorAllocatorConfig::roundup_power2_divisions, c10/core/AllocatorConfig.cpp)
        (MIB - 1, MIB),  # below, as from 1 to 2 MiB: 1
        (7 * MIB + 1, 7 * MIB + 512),
        (8 * MIB, 8 * MIB),
        (9 * MIB, 12 * MIB),  # from 8 to 16 MiB: 2
        (17 * MIB, 18 * MIB),  # above: 8
        (64 * 1024 * MIB + 1, 72 * 1024 * MIB),  # the last interval is open
    ],
)
def test_every_power_of_two_has_its_own_division(size_bytes: int, expected: int) -> None:
    config = AllocatorConfig.parse("roundup_power2_divisions:[4:1,8:2,>:8]")
    assert round_size(size_bytes, config.divisions) == expected


AT_LIMITS = [
    # of 40 MiB, a request of 20 MiB would waste kLargeBuffer, 20 MiB: not taken; one of 512 bytes more takes it
    ("max_split_size_mb:20", 1.0, [40, "f0", 20], (20 * MIB, 60 * MIB, 2, 0)),
    ("max_split_size_mb:20", 1.0, [40, "f0", 20 + 1 / 2048], (40 * MIB, 40 * MIB, 1, 0)),
    # from that size on a block is not split: of 30 MiB the rest of 10 goes along
    ("max_split_size_mb:20", 1.0, [30, "f0", 20], (30 * MIB, 30 * MIB, 1, 0)),
    # two of three cached blocks of 20 MiB, the size from which on they count as oversize, make room for 40 MiB
    ("max_split_size_mb:20", 0.5, [20, 20, 20, 40, "f0", "f1", "f2", 40], (80 * MIB, 100 * MIB, 3, 0)),
    # 50 MiB reserved are the threshold, not above it: nothing is collected
    ("garbage_collection_threshold:0.5", 0.5, [20, "f0", 30, 22], (52 * MIB, 72 * MIB, 3, 0)),
    # 70 MiB are 20 above it: the older block of 20 MiB is enough, the one of 30 MiB stays
    ("garbage_collection_threshold:0.5", 0.5, [20, 20, "f1", 30, "f2", 32], (52 * MIB, 82 * MIB, 3, 0)),
    # they are 20 MiB and a byte above it: both go
    ("garbage_collection_threshold:0.5", 0.5 - 2**-28, [20, 20, "f1", 30, "f2", 32], (52 * MIB, 52 * MIB, 2, 0)),
]


def in_bytes(events: list[float | str]) -> list[list[Any]]:
    """Sizes in MiB, and "f0" that frees the first allocation, as events of a golden trace."""
    keys = count()
    return [["f", int(e[1:])] if isinstance(e, str) else ["a", next(keys), int(e * MIB)] for e in events]


@pytest.mark.parametrize(("alloc_conf", "fraction", "events", "last"), AT_LIMITS)
def test_limits_at_equality(
    alloc_conf: str, fraction: float, events: list[float | str], last: tuple[int, int, int, int]
) -> None:
    """Of 200 MiB; `last` is what PyTorch 2.14's compiled allocator answers (test_allocator_oracle asks one again)."""
    question = {"torch": "2.14.1", "total_bytes": 200 * MIB, "memory_fraction": fraction, "alloc_conf": alloc_conf}
    allocator = allocator_of(question)
    events_in_bytes = in_bytes(events)
    differences({"events": events_in_bytes, "expected": [None] * len(events_in_bytes)}, allocator)
    assert (allocator.allocated_bytes, allocator.reserved_bytes, allocator.segments, allocator.retries) == last


# Invariants, whatever the sequence of allocations and frees.

SIZES = st.one_of(
    st.integers(0, 4096),
    st.integers(0, 2 * MIB),
    st.integers(MIB, 40 * MIB),
    st.sampled_from([MIB - 511, MIB, MIB + 1, 10 * MIB - 512, 10 * MIB, 20 * MIB, 31 * MIB]),
)
STEPS = st.lists(st.one_of(SIZES, st.integers(-20, -1)), max_size=80)  # a size, or which of the live keys to free
CONFIGS = st.builds(
    AllocatorConfig,
    roundup_power2_divisions=st.sampled_from([0, 2, 8]),
    garbage_collection_threshold=st.sampled_from([0.0, 0.5]),
    torch_version=st.sampled_from([(2, 12), (2, 13)]),
    max_split_size_bytes=st.sampled_from([None, 20 * MIB, 30 * MIB]),
)
ANY_CONFIG = st.one_of(CONFIGS, st.builds(AllocatorConfig, expandable_segments=st.just(True)))
LIMITS = st.sampled_from([None, 50 * MIB, 90 * MIB])
TOTAL = 120 * MIB


def run(steps: list[int], allocator: CachingAllocator) -> list[int]:
    """Take the steps, skipping allocations that do not fit; the keys alive at the end."""
    live: list[int] = []
    for key, step in enumerate(steps):
        if step < 0:
            if live:
                allocator.free(live.pop(step % len(live)))
            continue
        try:
            allocator.malloc(key, step)
        except OutOfMemory:
            continue
        live.append(key)
    return live


@given(STEPS, ANY_CONFIG, LIMITS)
@settings(deadline=None)
def test_blocks_tile_their_segments_and_the_counters_add_up(
    steps: list[int], config: AllocatorConfig, limit_bytes: int | None
) -> None:
    allocator = CachingAllocator(TOTAL, limit_bytes=limit_bytes, config=config)
    live = run(steps, allocator)
    segments = allocator.snapshot()
    end_of_last = 0
    for segment in segments:
        assert segment.address >= end_of_last  # segments, and so blocks, do not overlap
        end_of_last = segment.address + segment.size_bytes
        address = segment.address
        for block in segment.blocks:
            assert block.address == address
            assert block.size_bytes >= 512 and block.size_bytes % 512 == 0
            address += block.size_bytes
        assert address == end_of_last
        free = [not block.in_use for block in segment.blocks]
        assert not any(left and right for left, right in pairwise(free))  # all merged
    used = [block for segment in segments for block in segment.blocks if block.in_use]
    sizes = dict(enumerate(steps))
    assert {block.key: block.requested_bytes for block in used} == {key: sizes[key] for key in live if sizes[key]}
    assert allocator.allocated_bytes == sum(block.size_bytes for block in used)
    assert allocator.reserved_bytes == sum(segment.size_bytes for segment in segments)
    assert allocator.allocated_bytes <= allocator.reserved_bytes
    assert allocator.segments == (0 if config.expandable_segments else len(segments))


@given(STEPS, ANY_CONFIG)
@settings(deadline=None)
def test_a_live_block_is_its_request_rounded_plus_what_was_not_worth_a_split(
    steps: list[int], config: AllocatorConfig
) -> None:
    allocator = CachingAllocator(TOTAL, config=config)
    run(steps, allocator)
    max_split = config.max_split_size_bytes or TOTAL
    for segment in allocator.snapshot():
        for block in segment.blocks:
            if block.in_use:
                rounded = round_size(block.requested_bytes, config.divisions)
                oversize = rounded >= max_split
                slack = 0 if segment.is_small or segment.is_expandable else 20 * MIB - 512 if oversize else MIB
                assert 0 <= block.size_bytes - rounded <= slack


@given(STEPS, ANY_CONFIG, LIMITS)
@settings(deadline=None)
def test_nothing_is_left_when_everything_is_freed(
    steps: list[int], config: AllocatorConfig, limit_bytes: int | None
) -> None:
    allocator = CachingAllocator(TOTAL, limit_bytes=limit_bytes, config=config)
    for key in run(steps, allocator):
        allocator.free(key)
    assert allocator.allocated_bytes == 0
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.segments, allocator.snapshot()) == (0, 0, [])


@given(STEPS, CONFIGS, LIMITS)
@settings(deadline=None)
def test_reserved_never_exceeds_the_limit(steps: list[int], config: AllocatorConfig, limit_bytes: int | None) -> None:
    allocator = CachingAllocator(TOTAL, limit_bytes=limit_bytes, config=config)
    run(steps, allocator)
    assert allocator.peak_reserved_bytes <= (limit_bytes or TOTAL)


@given(STEPS, CONFIGS, SIZES)
@settings(deadline=None)
def test_a_restored_snapshot_behaves_alike(steps: list[int], config: AllocatorConfig, size_bytes: int) -> None:
    original = CachingAllocator(TOTAL, config=AllocatorConfig(config.max_split_size_bytes))
    run(steps, original)
    copy = CachingAllocator(TOTAL, config=original.config)
    copy.restore(original.snapshot())
    assert copy.snapshot() == original.snapshot()
    counters = ("allocated_bytes", "reserved_bytes", "segments")
    assert [getattr(copy, name) for name in counters] == [getattr(original, name) for name in counters]
    replays = [replay([(len(steps), size_bytes)], allocator) for allocator in (original, copy)]
    assert replays[0].fits == replays[1].fits
    assert [getattr(copy, name) for name in counters] == [getattr(original, name) for name in counters]


def test_restore_needs_an_unused_allocator_with_room() -> None:
    allocator = CachingAllocator(100 * MIB)
    allocator.malloc(1, 30 * MIB)
    with pytest.raises(ValueError, match="unused allocator"):
        allocator.restore(allocator.snapshot())
    with pytest.raises(ValueError, match="exceeds 20971520 bytes"):
        CachingAllocator(20 * MIB).restore(allocator.snapshot())


# The configuration string.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, AllocatorConfig()),
        ("", AllocatorConfig()),
        ("max_split_size_mb:128", AllocatorConfig(max_split_size_bytes=128 * MIB)),
        (" max_split_size_mb : 20 ,", AllocatorConfig(max_split_size_bytes=20 * MIB)),
        ("roundup_power2_divisions:4", AllocatorConfig(roundup_power2_divisions=4)),
        ("garbage_collection_threshold:0.6", AllocatorConfig(garbage_collection_threshold=0.6)),
        ("expandable_segments:True", AllocatorConfig(expandable_segments=True)),
        ("expandable_segments:False,max_split_size_mb:64", AllocatorConfig(max_split_size_bytes=64 * MIB)),
        ("backend:native,pinned_use_background_threads:True", AllocatorConfig()),
        (
            "roundup_power2_divisions:[4:1,8:2,>:8],garbage_collection_threshold:0.5",
            AllocatorConfig(
                roundup_power2_divisions=(1, 1, 1, 2, *[8] * 12),
                garbage_collection_threshold=0.5,
            ),
        ),
        ("roundup_power2_divisions:[1048576:4]", AllocatorConfig(roundup_power2_divisions=(4,) * 16)),
    ],
)
def test_parse(text: str | None, expected: AllocatorConfig) -> None:
    assert AllocatorConfig.parse(text) == expected


def test_nothing_is_on_unless_it_is_said() -> None:
    assert AllocatorConfig() == AllocatorConfig(None, 0, 0.0, False, (2, 13))
    assert AllocatorConfig().garbage_collection_threshold == 0


def test_parse_keeps_the_release() -> None:
    assert AllocatorConfig.parse("max_split_size_mb:64", (2, 11)).torch_version == (2, 11)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_split_mb:128", "unknown key 'max_split_mb'; known keys: max_split_size_mb, roundup_power2_divisions"),
        ("max_split_size_mb", "got 'max_split_size_mb', expected key:value"),
        ("max_split_size_mb:64,,expandable_segments:True", "got '', expected key:value"),
        ("max_split_size_mb:19", "max_split_size_mb: got '19', expected a whole number of MiB, at least 20"),
        ("max_split_size_mb:1.5", "got '1.5', expected a whole number of MiB"),
        ("max_split_size_mb:", "got '', expected a whole number of MiB"),
        ("garbage_collection_threshold:1.0", "got '1.0', expected a fraction strictly between 0 and 1"),
        ("garbage_collection_threshold:0", "got '0', expected a fraction"),
        ("garbage_collection_threshold:high", "got 'high', expected a fraction"),
        ("expandable_segments:true", "expandable_segments: got 'true', expected True or False"),
        ("roundup_power2_divisions:3", "got '3', expected a power of two"),
        ("roundup_power2_divisions:[3:4]", r"got '\[3:4\]', expected a power of two"),
        ("roundup_power2_divisions:[4:3,>:2]", "expected a power of two"),
        ("roundup_power2_divisions:[]", "expected a power of two"),
        ("roundup_power2_divisions:[4:2", "expected a power of two"),
        ("backend:cudaMallocAsync", "backend: 'cudaMallocAsync' is not simulated"),
        ("large_segment_size_mb:40", "large_segment_size_mb: '40' is not simulated"),
        ("expandable_segments:True,max_split_size_mb:64", "not simulated: choose one"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AllocatorConfig.parse(text)


def test_a_table_of_divisions_has_one_number_per_power_of_two() -> None:
    with pytest.raises(ValueError, match="got 2 numbers, expected 16"):
        AllocatorConfig(roundup_power2_divisions=(1, 2))


def test_an_allocator_that_did_nothing_reserved_nothing():
    assert replay([], CachingAllocator(MIB)) == Replay(True, 0, 0, 0, None)


def test_what_ran_out_of_memory_is_told_with_no_address():
    history: list[Entry] = []
    replay([(7, 3 * MIB)], CachingAllocator(2 * MIB, observer=history.append))
    assert history == [Entry(Action.OUT_OF_MEMORY, 7, 0, 3 * MIB, 0, 0)]


def test_divisions_are_off_where_none_divides():
    assert AllocatorConfig().divisions is None
    assert AllocatorConfig(roundup_power2_divisions=1).divisions is None
    assert AllocatorConfig(roundup_power2_divisions=2).divisions == (2,) * 16


@pytest.mark.parametrize(("second", "reserved"), [(20 * MIB, 20 * MIB), (19 * MIB, 40 * MIB)])
def test_an_oversize_block_is_for_a_request_from_the_limit_on(second, reserved):
    """As DeviceCachingAllocator::get_free_block has it: not for one below max_split_size."""
    config = AllocatorConfig.parse("max_split_size_mb:20")
    events = [(0, 20 * MIB), (0, FREE), (1, second)]
    assert replay(events, CachingAllocator(100 * MIB, config=config)).peak_reserved_bytes == reserved
