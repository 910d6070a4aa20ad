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
    ("build", "value"),
    [
        (lambda: sevens(*LARGE).mul_(2), 14),
        (lambda: (sevens(*LARGE).uniform_(), sevens(*LARGE).mul_(2))[1], 14),
        (lambda: nn.init.ones_(sevens(*LARGE)), 1),
        (lambda: sevens(*LARGE).uniform_().copy_(torch.ones(LARGE)), 1),
    ],
)
def test_what_is_not_drawn_is_carried_out(build, value):
    assert (built(build) == value).all()


@pytest.mark.parametrize(
    ("build", "least", "most"),
    [
        (lambda: sevens(10, 10).uniform_(), 0, 1),
        (lambda: sevens(10, 10).normal_(), -6, 6),
        (lambda: nn.init.trunc_normal_(sevens(10, 10), **LIMITS), 0.5, 1),
        (lambda: torch.rand(LARGE), 0, 1),
    ],
)
def test_what_is_small_or_new_is_drawn(build, least, most):
    drawn = built(build)
    assert len(drawn.unique()) > 50
    assert drawn.min() >= least
    assert drawn.max() <= most


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


def test_on_the_card_it_is_seen_what_is_drawn():
    """The number that it is multiplied by is seen there first."""
    with on_cuda():
        events = events_of(
            lambda batch, device: (
                lambda: torch.empty(LARGE, device="cuda").normal_().mul_(torch.tensor(2.0, device="meta"))
            ),
            2,
            1,
        )
    assert [event.size_bytes for event in events if event.size_bytes > 0] == [40_000, 4]
