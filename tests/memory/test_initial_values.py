"""Large tensors on the host are not drawn in a recording; what is small, or comes from elsewhere, is as ever."""

import pytest
import torch
from torch import nn

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

LARGE = (100, 100)


def built(build):
    """What `build` gives in a recording for a GPU."""
    found = []

    def make_step(batch, device):
        found.append(build())
        return lambda: None

    with on_cuda():
        events_of(make_step, 2, 1)
    return found[0]


LIMITS = {"a": 0.5, "b": 1.0}  # without 0, and within little of the distribution


def sevens(*shape):
    return torch.full(shape, 7.0)


@pytest.mark.parametrize(
    "initial",
    [
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.kaiming_uniform_,
        nn.init.xavier_normal_,
        lambda tensor: nn.init.trunc_normal_(tensor, std=0.02),
        lambda tensor: nn.init.trunc_normal_(tensor, **LIMITS),
        lambda tensor: tensor.uniform_(-1, 1).erfinv_().mul_(0.02).add_(1).clamp_(-2, 2),
        lambda tensor: tensor.data.normal_(0, 0.02).mul_(2),
    ],
)
@pytest.mark.parametrize(("shape", "value"), [(LARGE, 0), ((2**24,), 7)])
def test_what_would_be_drawn_is_not(initial, shape, value):
    """The largest are left as they are; of the system's memory, that would be zeros."""

    def build():
        tensor = sevens(*shape)
        initial(tensor.view(2, -1))
        return tensor

    assert (built(build) == value).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: sevens(10, 10).uniform_(),
        lambda: nn.init.trunc_normal_(sevens(10, 10)),
        lambda: sevens(*LARGE).mul_(2),
        lambda: nn.init.ones_(sevens(*LARGE)),
        lambda: sevens(*LARGE).uniform_().copy_(torch.ones(LARGE)),
        lambda: torch.rand(LARGE),
    ],
)
def test_all_else_is_carried_out(build):
    assert not (built(build) == 7).any()


def test_memory_used_again_is_not_taken_for_what_was_there():
    def build():
        for _ in range(50):
            sevens(*LARGE).uniform_()
        return [sevens(*LARGE).mul_(2) for _ in range(50)]

    assert all((each == 14).all() for each in built(build))


def test_outside_a_recording_for_a_gpu_values_are_drawn():
    drawn = []

    def make_step(batch, device):
        drawn.append(sevens(*LARGE).uniform_())
        return lambda: None

    events_of(make_step, 2, 1)
    assert (drawn[0] < 1).all()
