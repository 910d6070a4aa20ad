"""The cuda engine's logic, on a stand-in for the GPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.memory import card_of_capacity, largest_batch
from bench.memory.cuda import CudaEngine, Measurement, NoGpuError, ProbeFailedError, cap_fraction, require_gpu
from bench.memory.isolated import IsolatedError
from bench.units import GiB

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
    limit = data.draw(st.integers(1, total - 1))
    assert int(cap_fraction(limit, total) * total) == limit


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(NoGpuError, match=r"the cuda engine needs a GPU, but .*: use --engine simulated"):
        require_gpu()
