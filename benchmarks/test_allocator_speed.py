"""How many events a second the allocator replays, per kind of configuration, on the golden traces.

Run with ``pytest benchmarks --benchmark-only``; the rate is ``events_per_second`` in the extra info.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.memory.allocator.caching import FREE, AllocatorConfig, CachingAllocator, replay

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "allocator"
KINDS = [
    "default_torch2.12.0",
    "default_torch2.13.0",
    "expandable_segments_torch2.11.0",
    "garbage_collection_threshold_torch2.13.0",
    "max_split_size_mb_torch2.13.0",
    "roundup_power2_divisions_torch2.13.0",
]

Events = list[tuple[int, int]]


class GoldenTrace:
    """A golden trace as runs of replay events, each up to an out of memory or an empty_cache."""

    def __init__(self, path: Path) -> None:
        with gzip.open(path) as file:
            trace: dict[str, Any] = json.load(file)
        major, minor = trace["torch"].split(".")[:2]
        self.config = AllocatorConfig.parse(trace["alloc_conf"], (int(major), int(minor)))
        self.total_bytes: int = trace["total_bytes"]
        fraction = trace["memory_fraction"]
        self.limit_bytes = None if fraction == 1.0 else int(fraction * self.total_bytes)
        self.runs: list[tuple[Events, bool]] = []  # (events, whether empty_cache follows)
        events: Events = []
        never_lived = set()
        for event, expected in zip(trace["events"], trace["expected"], strict=True):
            if event[0] == "a":
                events.append((event[1], event[2]))
                if expected is None:
                    never_lived.add(event[1])
                    self.runs.append((events, False))
                    events = []
            elif event[0] == "e":
                self.runs.append((events, True))
                events = []
            elif event[1] not in never_lived:
                events.append((event[1], FREE))
        self.runs.append((events, False))

    def replay(self) -> None:
        allocator = CachingAllocator(self.total_bytes, limit_bytes=self.limit_bytes, config=self.config)
        for events, empty_cache in self.runs:
            replay(events, allocator)
            if empty_cache:
                allocator.empty_cache()


@pytest.mark.parametrize("kind", KINDS)
def test_replay_speed(benchmark: BenchmarkFixture, kind: str) -> None:
    traces = [GoldenTrace(path) for path in sorted(GOLDEN.glob(f"*{kind}.json.gz"))]
    assert len(traces) == 11

    def replay_all() -> None:
        for trace in traces:
            trace.replay()

    benchmark(replay_all)
    count = sum(len(events) for trace in traces for events, _ in trace.runs)
    benchmark.extra_info["events"] = count
    if benchmark.stats is not None:
        benchmark.extra_info["events_per_second"] = round(count / benchmark.stats.stats.median)
