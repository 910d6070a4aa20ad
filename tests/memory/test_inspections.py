"""What a card is asked of values: the results' shapes and types as PyTorch's own on the host, and what is read."""

import warnings

import pytest
import torch

from bench.memory.recording import inspections
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import Read, reads_noted


def told(call, device="cuda"):
    """What a call of a step gives, what it reads, and the warnings."""
    results = []

    def make_step(batch, chosen):
        return lambda: results.append(call(device))

    with warnings.catch_warnings(record=True) as heard, on_cuda(), reads_noted() as reads:
        warnings.simplefilter("always")
        events_of(make_step, 2, 1)
    return results[-1], reads, [str(each.message) for each in heard]


def chances(*shape, device):
    return torch.full(shape, 0.5, device=device)


@pytest.mark.parametrize(
    "call",
    [
        lambda device: torch.normal(1.0, chances(4, 5, device=device)),
        lambda device: torch.normal(1.0, chances(4, 5, device=device).double().t()),
        lambda device: torch.normal(chances(4, 5, device=device), chances(5, device=device)),
        lambda device: torch.multinomial(chances(4, 5, device=device), 1),
        lambda device: torch.multinomial(chances(4, 5, device=device), 3),
        lambda device: torch.multinomial(chances(5, device=device), 2, True),
        lambda device: torch.multinomial(chances(4, 5, device=device), 1, True),
        lambda device: torch.bincount(torch.arange(5, device=device)),
        lambda device: torch.bincount(torch.arange(5, device=device), chances(5, device=device), 7),
        lambda device: torch.bincount(torch.arange(5, device=device), torch.arange(5, device=device)),
        lambda device: torch.bincount(torch.arange(0, device=device), chances(0, device=device)),
        lambda device: torch.fake_quantize_per_channel_affine(
            chances(4, 5, device=device), chances(4, device=device), torch.arange(4, device=device).int(), 0, -9, 9
        ),
    ],
)
def test_results_are_as_pytorchs_own(call):
    made, expected = told(call)[0], call("cpu")
    assert (made.shape, made.dtype, made.stride()) == (expected.shape, expected.dtype, expected.stride())


def read(*numbers, dtype):
    return [Read(dtype.itemsize, torch.tensor(number, dtype=dtype).numpy().tobytes()) for number in numbers]


@pytest.mark.parametrize(("release", "times"), [((2, 13), 2), ((2, 14), 0)])
@pytest.mark.parametrize("mean", [1.0, "tensor"])
def test_deviations_are_read_before_2_14_alone(release, times, mean, monkeypatch):
    """Twice; on the virtual card torch 2.14.1 reads nothing there, 2.13 does."""
    monkeypatch.setattr(inspections, "installed_release", lambda: release)

    def reads(deviations):
        def call(device):
            return torch.normal(chances(1, device=device) if mean == "tensor" else mean, deviations.to(device))

        return told(call)[1]

    least = torch.tensor([0.5, 0.0])
    assert reads(least) == read(*[True] * times, dtype=torch.bool)
    assert reads(torch.tensor([-1.0, 0.0])) == read(*[False] * times, dtype=torch.bool)
    assert reads(least[:0]) == []


def test_the_smallest_and_the_largest_are_read():
    assert told(lambda device: torch.tensor([4, 2, 7], device=device).bincount())[1] == read(2, 7, dtype=torch.int64)
    zeros = torch.tensor([3, 1, 2], dtype=torch.int32)

    def rounded(device):
        values, scales = chances(3, 5, device=device), chances(3, device=device)
        return torch.fake_quantize_per_channel_affine(values, scales, zeros.to(device), 0, -9, 9)

    assert told(rounded)[1] == read(1, 3, dtype=torch.int32)


def test_what_is_asked_and_not_known_is_not_said():
    """The factors are taken for found: nothing hangs on it."""
    _, reads, said = told(lambda device: torch.linalg.cholesky(torch.rand(3, 3, device=device)))
    assert (reads, said) == ([Read(1, None)], [])


def test_a_step_that_says_no_cuda_reads_nothing():
    counts = []

    def make_step(batch, device):
        return lambda: counts.append(torch.bincount(torch.zeros(5, dtype=torch.int64, device=device)).shape)

    events_of(make_step, 1, 1)
    assert counts == [(1,)]
