"""The replay against PyTorch's own compiled allocator, live, on sequences made up here.

Needs the torch/lib folder of a CUDA wheel, a GPU not: BENCH_ORACLE_TORCH_LIB names one or several (separated like
PATH), otherwise the installed torch is taken if it is a CUDA build. tools/allocator_oracle/README.md says how to get
one. Without one, what needs it is skipped.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocator import AT_LIMITS, GOLDEN, MIB, SIZES, allocator_of, differences, in_bytes, load, name_of

from bench.memory.allocator.caching import FREE
from bench.memory.trace import Event as RecordedEvent
from bench.memory.trace import fitted, freed
from tools.allocator_oracle.__main__ import golden
from tools.allocator_oracle.oracle import Oracle
from tools.allocator_oracle.suite_steps import decode, encode

INSTALLED = [str(Path(torch.__file__).parent / "lib")] if torch.version.cuda else []
NAMED = os.environ.get("BENCH_ORACLE_TORCH_LIB", "").split(os.pathsep)
TORCH_LIBS = [Path(path) for path in (NAMED if any(NAMED) else INSTALLED)]


@pytest.fixture(scope="module", params=TORCH_LIBS or [None], ids=str)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    if request.param is None:
        pytest.skip("no CUDA build of torch: BENCH_ORACLE_TORCH_LIB=DIR names the torch/lib of an unpacked wheel")
    if missing := [tool for tool in ("g++", "nm") if not shutil.which(tool)]:
        pytest.skip(f"the oracle is compiled: {', '.join(missing)} not found")
    return Oracle(request.param)


def check(oracle: Oracle, events: list[list[Any]], total_bytes: int, fraction: float, alloc_conf: str | None) -> None:
    """The replay gives the oracle's answers and peaks."""
    question = {"total_bytes": total_bytes, "memory_fraction": fraction, "alloc_conf": alloc_conf, "events": events}
    trace = golden(oracle, question)
    allocator = allocator_of(trace)
    assert differences(trace, allocator)[:3] == []
    peak = {"allocated": allocator.peak_allocated_bytes, "reserved": allocator.peak_reserved_bytes}
    assert peak == trace["peak"]


CONFS = [
    None,
    "expandable_segments:True",
    "expandable_segments:True,roundup_power2_divisions:8",
    "expandable_segments:True,garbage_collection_threshold:0.6",
    "max_split_size_mb:20",
    "max_split_size_mb:30",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[1:2,4:4,>:8],max_split_size_mb:40",
    "garbage_collection_threshold:0.5",
    "garbage_collection_threshold:0.8,max_split_size_mb:25",
]
TOTALS = st.one_of(st.sampled_from([0, 2 * MIB - 1, 120 * MIB]), st.integers(1, 400 * MIB))
FRACTIONS = st.one_of(st.just(1.0), st.floats(0.01, 1.0))
EMPTY_CACHE = "e"


@given(
    steps=st.lists(st.one_of(SIZES, st.integers(-20, -1), st.just(EMPTY_CACHE)), max_size=80),
    total_bytes=TOTALS,
    fraction=FRACTIONS,
    alloc_conf=st.sampled_from(CONFS),
)
@settings(deadline=None, max_examples=200)
def test_any_sequence(
    oracle: Oracle, steps: list[int | str], total_bytes: int, fraction: float, alloc_conf: str | None
) -> None:
    events: list[list[Any]] = []
    live: list[int] = []
    for key, step in enumerate(steps):  # a size, which of the live keys to free, or to empty the cache
        if isinstance(step, str):
            events.append([step])
        elif step >= 0:
            events.append(["a", key, step])
            live.append(key)
        elif live:
            events.append(["f", live.pop(step % len(live))])
    check(oracle, events, total_bytes, fraction, alloc_conf)


def walk(rng: random.Random, length: int) -> list[list[Any]]:
    """A long sequence: a few sizes that come again and again, as in training, among sizes that do not."""

    def size() -> int:
        return rng.randint(1, rng.choice([4096, 2 * MIB, 40 * MIB, 120 * MIB]))

    usual = [size() for _ in range(rng.randint(2, 12))]
    chance_to_free, chance_to_empty = rng.uniform(0.3, 0.55), rng.choice([0, 0.003, 0.02])
    events: list[list[Any]] = []
    live: list[int] = []
    for key in range(length):
        if rng.random() < chance_to_empty:
            events.append([EMPTY_CACHE])
        elif live and rng.random() < chance_to_free:
            events.append(["f", live.pop(rng.choice([-1, 0, rng.randrange(len(live))]))])
        else:
            events.append(["a", key, rng.choice(usual) if rng.random() < 0.6 else size()])
            live.append(key)
    return events


@pytest.mark.parametrize("alloc_conf", CONFS)
def test_long_walks(oracle: Oracle, alloc_conf: str | None) -> None:
    for seed in range(10):
        rng = random.Random(seed)
        total_bytes = rng.randint(20 * MIB, 3000 * MIB)
        for fraction in (1.0, rng.uniform(0.2, 1.0)):
            check(oracle, walk(rng, 1000), total_bytes, fraction, alloc_conf)


def test_golden_traces_are_what_the_release_answers(oracle: Oracle) -> None:
    traces = {name_of(path): load(path) for path in GOLDEN}
    of_release = {name: trace for name, trace in traces.items() if trace["torch"] == oracle.release}
    assert [name for name, trace in of_release.items() if golden(oracle, trace) != trace] == []


def test_limits_at_equality_are_what_the_release_answers(oracle: Oracle) -> None:
    for alloc_conf, fraction, events, last in AT_LIMITS:
        assert oracle.run(in_bytes(events), 200 * MIB, fraction, alloc_conf).after[-1] == last


def test_an_option_torch_does_not_know_is_an_error(oracle: Oracle) -> None:
    with pytest.raises(RuntimeError, match="no_such_option"):
        oracle.run([("a", 1, 512)], 100 * MIB, alloc_conf="no_such_option:1")


@pytest.mark.parametrize("event", [("x",), ("f", "one"), ("a", 1)])
def test_what_is_no_event_is_an_error(oracle: Oracle, event: Any) -> None:
    with pytest.raises(RuntimeError, match=f"no event: a line that begins with {event[0]}"):
        oracle.run([event], 100 * MIB)


# What needs no library.


def test_a_folder_without_the_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no libc10_cuda\.so"):
        Oracle(tmp_path)


def test_a_step_is_stored_and_read_back_for_every_batch() -> None:
    def recording(batch: int) -> list[RecordedEvent]:
        sizes = [(0, 100 + 7 * batch), (1, 64 * batch), (0, FREE), (2, 100 + 7 * batch), (2, FREE), (3, 0)]
        return [freed(key) if size is FREE else RecordedEvent(key, size, False, "op") for key, size in sizes]

    trace = fitted(2, [recording(2), recording(3)])
    step = encode(trace)
    assert step == {"sizes": [[100, 7], [0, 64], [0, 0]], "events": [0, 1, -2, 0, -1, 2]}
    for batch in (1, 5):
        assert decode(step, batch) == trace.at(batch)
