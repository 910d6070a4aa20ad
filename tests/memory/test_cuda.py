"""The cuda engine's logic, on a stand-in for the GPU."""

import os
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.memory import CARDS, card_of_capacity, largest_batch
from bench.memory.measuring.cuda import (
    CudaEngine,
    Measurement,
    NoGpuError,
    ProbeFailedError,
    cap_fraction,
    measure_here,
    require_gpu,
)
from bench.memory.measuring.isolated import IsolatedError
from bench.units import GiB, MiB

CARD = card_of_capacity("8GB")


class StandIn:
    """A device on which the given batches fit, and others end in the given ways."""

    def __init__(self, fitting, ends=None, silent_ooms=0):
        self.fitting, self.ends, self.silent_ooms = fitting, ends or {}, silent_ooms
        self.trials = []

    def measure(self, trial):
        self.trials.append(trial)
        if trial.batch in self.ends:
            raise IsolatedError(self.ends[trial.batch])
        fits = trial.batch in self.fitting
        return Measurement(
            fits=fits,
            peak_allocated_bytes=trial.batch * 10,
            peak_reserved_bytes=trial.batch * 20,
            retries=1,
            ooms=self.silent_ooms + (not fits),
            limit_bytes=trial.limit_bytes,
            context_bytes=None,
            step_seconds=None,
            device="stand-in",
            torch=torch.__version__,
            cudnn=None,
        )


def engine(device, first_guess=1):
    return CudaEngine(lambda batch, device: None, CARD, first_guess=first_guess, device=device)


@pytest.mark.parametrize("first_guess", [1, 10, 13, 40])
def test_finds_the_edge(first_guess):
    device = StandIn(range(1, 14), silent_ooms=2)
    boundary = largest_batch(engine(device, first_guess))
    assert (boundary.batch, boundary.monotone) == (13, True)
    assert boundary.at_edge.peak_reserved_bytes == 260
    assert all(probe.fallbacks == 2 for probe in boundary.probes)
    assert {trial.limit_bytes for trial in device.trials} == {CARD.usable_bytes}


def test_what_a_probe_saw_is_kept_and_a_search_starts_at_one_by_default():
    device = StandIn(range(1, 14))
    cuda = CudaEngine(lambda batch, device: None, CARD, device=device)
    assert cuda.guess() == 1
    cuda.probe(3)
    cuda.probe(20)
    assert {batch: seen.fits for batch, seen in cuda.measurements.items()} == {3: True, 20: False}
    asked = device.trials[0]
    assert (asked.with_events, asked.reads) == (False, None)


def test_a_right_prediction_costs_three_probes():
    device = StandIn(range(1, 14))
    largest_batch(engine(device, first_guess=13))
    assert sorted(trial.batch for trial in device.trials) == [13, 14, 15]


def test_an_edge_that_is_not_monotone():
    boundary = largest_batch(engine(StandIn({1, 2, 3, 5}), first_guess=3))
    assert (boundary.batch, boundary.monotone) == (5, False)


def test_nothing_fits():
    assert largest_batch(engine(StandIn(()))).batch == 0


@pytest.mark.parametrize(
    "end",
    [
        "its process died (signal SIGKILL)",
        "gave no answer within 300 s and was stopped",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    ],
)
def test_what_is_not_out_of_memory_is_an_error(end):
    with pytest.raises(ProbeFailedError) as failure:
        largest_batch(engine(StandIn(range(1, 6), {5: end})))
    assert str(failure.value) == f"the probe of batch 5 under 8GB failed: {end}"


@given(total=st.integers(GiB, 200 * GiB), data=st.data())
def test_the_cap_is_met_to_the_byte(total, data):
    limit = data.draw(st.integers(1, total))
    fraction = cap_fraction(limit, total)
    assert int(fraction * total) == limit
    assert 0 < fraction <= 1  # as PyTorch wants it


class FakeCuda:
    """What a probe asks of torch.cuda: a card of 4 GiB on which 100 MiB are in use, and 300 MiB more at the end."""

    def __init__(self, monkeypatch):
        self.fraction, self.used, self.asked = None, [100 * MiB, 1100 * MiB], []
        statistics = {
            "allocated_bytes.all.peak": 600 * MiB,
            "reserved_bytes.all.peak": 700 * MiB,
            "num_alloc_retries": 2,
            "num_ooms": 3,
        }
        for name, answer in {
            "get_device_properties": self.properties,
            "set_per_process_memory_fraction": lambda fraction, device: setattr(self, "fraction", fraction),
            "Event": FakeEvent,
            "synchronize": lambda device: None,
            "memory_stats": lambda device: statistics,
            "memory_reserved": lambda device: 700 * MiB,
            "device_memory_used": lambda index: self.used.pop(0),
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        for name in ("CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
            monkeypatch.setenv(name, "the user's own")
        for name in ("allow_tf32", "deterministic"):
            monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))

    def properties(self, device):
        self.asked.append(device)
        return SimpleNamespace(name="NVIDIA Stand-in 4", total_memory=4 * GiB)


class FakeEvent:
    """As on a GPU, the time between two is known where both were made for timing, and recorded."""

    def __init__(self, enable_timing=False):
        self.enable_timing, self.is_recorded = enable_timing, False

    def record(self):
        self.is_recorded = True

    def elapsed_time(self, end):
        assert self.enable_timing and end.enable_timing and self.is_recorded and end.is_recorded
        return 250.0


def trial(step, card=CARD, **options):
    """The trial of batch 7 as the engine makes it."""
    device = StandIn(range(10))
    CudaEngine(lambda batch, device: partial(step, batch, device), card, device=device, **options).probe(7)
    return replace(device.trials[0], limit_bytes=GiB)


def test_a_probe_runs_whole_steps_under_the_cap_and_the_settings(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    seen = []

    def step(batch, device):
        switches = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
        environment = os.environ["CUBLAS_WORKSPACE_CONFIG"], os.environ["PYTORCH_CUDA_ALLOC_CONF"]
        seen.append((batch, str(device), switches, environment))

    expandable = "expandable_segments:True"
    asked = trial(step, CARDS["H200"], steps=3, allow_tf32=False, deterministic=True, alloc_conf=expandable)
    measured = measure_here(asked)
    assert seen == 3 * [(7, "cuda:0", (False, True), (":4096:8", expandable))]
    assert int(cuda.fraction * 4 * GiB) == GiB == measured.limit_bytes
    assert measured.fits
    assert (measured.peak_allocated_bytes, measured.peak_reserved_bytes) == (600 * MiB, 700 * MiB)
    assert (measured.retries, measured.ooms, measured.step_seconds) == (2, 3, 0.25)
    assert measured.context_bytes == 300 * MiB

    FakeCuda(monkeypatch)
    assert measure_here(trial(step)).fits
    assert seen[-1][2:] == ((True, False), (":4096:2:16:8", ""))


@pytest.mark.parametrize("silent", [(True, True), (True, False), (False, True)])
def test_without_nvml_what_is_outside_the_allocator_is_not_known(silent, monkeypatch):
    FakeCuda(monkeypatch)
    answers = iter(silent)

    def used(index):
        if next(answers):
            raise ModuleNotFoundError("pynvml")
        return 100 * MiB

    monkeypatch.setattr(torch.cuda, "device_memory_used", used)
    measured = measure_here(trial(lambda batch, device: None))
    assert (measured.fits, measured.context_bytes) == (True, None)


def test_out_of_memory_is_an_answer_and_nothing_else_is(monkeypatch):
    def raising(error):
        def step(batch, device):
            raise error

        FakeCuda(monkeypatch)
        return measure_here(trial(step))

    measured = raising(torch.OutOfMemoryError("CUDA out of memory."))
    assert (measured.fits, measured.step_seconds) == (False, None)
    with pytest.raises(RuntimeError, match="device lost"):
        raising(RuntimeError("CUDA error: device lost"))


def test_a_pytorch_without_cuda_is_not_asked_for_a_gpu(monkeypatch):
    FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(NoGpuError, match=r"^the cuda engine needs a GPU, but this PyTorch is built without CUDA: use"):
        require_gpu()


def test_a_cap_above_the_device(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert require_gpu(4 * GiB) == require_gpu() == "NVIDIA Stand-in 4"
    require_gpu(device_index=3)
    assert cuda.asked == [0, 0, 3]
    with pytest.raises(NoGpuError) as refusal:
        require_gpu(5 * GiB)
    assert str(refusal.value) == (
        "NVIDIA Stand-in 4 has 4.00 GiB, less than the 5.00 GiB that the cap leaves to train in: give a smaller cap"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(NoGpuError, match=r"the cuda engine needs a GPU, but .*: use --engine simulated"):
        require_gpu()
