"""Two functions timed in turns, so that whatever else the machine does meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture


def side_by_side(
    benchmark: BenchmarkFixture,
    ours: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    timer: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Median seconds of `ours` over those of `other`, called once before each round; None with --benchmark-disable.

    Both are called once before anything is timed. ``extra_info`` gets "other_seconds" and "ratio". A `timer` other
    than the default has to be the benchmark's own as well: ``pytest.mark.benchmark(timer=...)``.
    """
    seconds: list[float] = []

    def time_other() -> None:
        start = timer()
        other()
        seconds.append(timer() - start)

    ours()
    other()
    benchmark.pedantic(ours, setup=time_other, rounds=rounds)
    if benchmark.stats is None:
        return None
    other_seconds = statistics.median(seconds)
    ratio: float = benchmark.stats.stats.median / other_seconds
    benchmark.extra_info |= {"other_seconds": other_seconds, "ratio": ratio}
    return ratio
