"""torch.cuda.empty_cache within a recorded step, to the byte; whole steps are in tests/virtual/test_steps.py."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from bench.memory import CARDS, SimulatedEngine, record
from bench.memory.allocator.caching import FREE, Act
from bench.memory.allocator.history import Action
from bench.memory.checked import CheckedStep
from bench.memory.explaining.explain import explain
from bench.memory.explaining.sources import locate
from bench.memory.recording.emptying import emptying_noted
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import record_events
from bench.memory.trace import Workspace
from bench.units import MiB

CARD = CARDS["RTX 3080"]
EMPTIED = "torch.cuda.empty_cache"


def of_two_sizes(batch, device, empty=None):
    """30 MiB per image, gone when 40 MiB per image are taken: one segment after another, or beside another."""

    def step():
        small = torch.empty(30 * batch, MiB, dtype=torch.uint8, device=device)
        del small
        (empty or torch.cuda.empty_cache)()
        torch.empty(40 * batch, MiB, dtype=torch.uint8, device=device)
        torch.cuda.memory.empty_cache()

    return step


def without(batch, device):
    return of_two_sizes(batch, device, lambda: None)


@pytest.mark.parametrize("bound", Workspace)
@pytest.mark.parametrize(("make_step", "reserved"), [(of_two_sizes, 40 * MiB), (without, 70 * MiB)])
def test_segments_that_a_program_gives_back_are_not_reserved_beside_others(make_step, reserved, bound):
    engine = SimulatedEngine(record(make_step), CARD, bound)
    for batch in (1, 2, 5):
        probe = engine.probe(batch)
        assert (probe.peak_allocated_bytes, probe.peak_reserved_bytes) == (40 * MiB * batch, reserved * batch)
        assert probe.retries == 0


def test_a_trace_says_where():
    step = [(0, 60 * MiB), (0, FREE), (1, Act.EMPTY_CACHE), (2, 80 * MiB), (2, FREE), (3, Act.EMPTY_CACHE)]
    trace = record(of_two_sizes)
    assert trace.at(2) == [*step, *((key + 4, size) for key, size in step)]
    assert trace.live_bytes(2).tolist() == 2 * [60 * MiB, 0, 0, 80 * MiB, 0, 0]
    assert [trace.op_names[op] for op in trace.op].count(EMPTIED) == 4


def test_a_run_with_data_is_observed_in_the_same_way():
    small = [record_events(of_two_sizes, 1, torch.device(device), 1) for device in ("meta", "cpu")]
    assert small[0] == small[1]


def test_a_checked_step_may_empty_the_cache():
    assert CheckedStep(of_two_sizes).holds_at(7)


def test_an_explanation_has_what_was_given_back():
    engine = SimulatedEngine(record(of_two_sizes), CARD)
    explanation = explain(engine, 2, locate(of_two_sizes, engine.trace, 2))
    given_back = [entry.size_bytes for entry in explanation.history if entry.action is Action.SEGMENT_FREE]
    assert given_back == 2 * [60 * MiB, 80 * MiB]
    assert explanation.peak_reserved_bytes == 80 * MiB


@pytest.mark.parametrize("is_without_data", [True, False])
def test_the_real_cache_is_emptied_in_a_run_with_data_alone(is_without_data, monkeypatch):
    heard, asked = [], []
    monkeypatch.setattr(torch.cuda.memory, "is_initialized", lambda: asked.append(1) and False)
    before = torch.cuda.empty_cache, torch.cuda.memory.empty_cache, torch.accelerator.empty_cache
    recorder = SimpleNamespace(is_without_data=is_without_data, note_emptying=lambda: heard.append(1))
    with emptying_noted(recorder):
        torch.cuda.empty_cache()
        torch.cuda.memory.empty_cache()
        with ThreadPoolExecutor(1) as pool:  # another thread's is its own
            pool.submit(torch.cuda.empty_cache).result()
    assert (len(heard), len(asked)) == (2, 1 if is_without_data else 3)
    assert before == (torch.cuda.empty_cache, torch.cuda.memory.empty_cache, torch.accelerator.empty_cache)


def test_programs_for_a_gpu_empty_it_too():
    with on_cuda(CARD):
        events = record_events(of_two_sizes, 2, torch.device("meta"), 1)
    assert [event.op for event in events].count(EMPTIED) == 2
