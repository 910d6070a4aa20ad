"""torch.autocast on a card that is not there gives what PyTorch's own gives on the host."""

import warnings
import weakref

import pytest
import torch
from torch import nn

from bench.memory.recording.on_cuda import on_cuda


def of_lists(device):
    """Results of lists of tensors, which are cast to the widest of theirs, and each within a list."""
    low, full, exact = (torch.ones(2, 2, dtype=each, device=device) for each in (torch.bfloat16, None, torch.float64))
    yield torch.cat([low, full])
    yield torch.cat([low, low])
    yield torch.stack((full, low))
    yield torch.stack((full, full))
    yield torch.cat([exact, low])
    yield torch.linalg.multi_dot([full, full, full])
    yield torch.mm(full, low)


def of_a_weight(device):
    """Products of a weight: which of them a gradient reaches, where it was cast without one first."""
    weight = nn.Parameter(torch.ones(2, 2, device=device))
    with torch.no_grad():
        yield torch.mm(weight, weight)
    yield torch.mm(weight, weight)
    yield torch.mm(weight.detach(), weight.detach())


@pytest.mark.parametrize("results", [of_lists, of_a_weight])
def test_types_and_gradients_are_those_of_the_host(results):
    def told(device):
        with torch.autocast(device, torch.bfloat16):
            return [(each.dtype, each.requires_grad) for each in results(device)]

    with on_cuda():
        found = told("cuda")
    assert found == told("cpu")


def test_casts_of_the_host_end_with_their_context():
    weight = nn.Parameter(torch.ones(1, 1))
    products = []
    with on_cuda():
        for value in (2.0, 3.0):
            weight.data.fill_(value)
            with torch.autocast("cpu", torch.bfloat16):
                products.append(torch.mm(weight, weight).item())
    assert products == [4, 9]


def test_casts_are_let_go_of_with_the_outermost_context_and_with_the_recording():
    def cast():
        weight = nn.Parameter(torch.ones(2, 2, device="cuda"))
        torch.mm(weight, weight)
        return weakref.ref(weight)

    with on_cuda():
        with torch.autocast("cuda", torch.bfloat16):
            with torch.autocast("cuda", torch.bfloat16):
                ended = cast()
            assert ended() is not None
        assert ended() is None
        never_ended = torch.autocast("cuda", torch.bfloat16)
        never_ended.__enter__()
        open_still = cast()
    never_ended.__exit__(None, None, None)
    assert open_still() is None


def test_nothing_is_said_of_kernels_that_stand_in_for_pytorchs():
    said_before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # what PyTorch says once in a process, it says now
    try:
        with warnings.catch_warnings(record=True) as said, on_cuda():
            warnings.simplefilter("always")
    finally:
        torch.set_warn_always(said_before)
    assert said == []
