"""Large tensors on the host are not drawn in a recording; what is small, or comes from elsewhere, is as ever."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import AssumedValue

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
        (lambda: (whole := sevens(*LARGE), whole[:50].uniform_())[0][50:], 7),
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


def test_a_part_of_a_tensor_is_left_at_zero_too():
    assert (built(lambda: sevens(*LARGE)[:50].uniform_()) == 0).all()


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


@pytest.mark.parametrize("begin", [0, 1, 1000, 1024])
@pytest.mark.parametrize("numbers", [4097, 8192, 10_000])
def test_what_is_not_drawn_is_zeros_and_what_stands_beside_it_is_left(begin, numbers):
    """Whole pages go back to the system, and none that is another's."""
    memory = np.full(20_000, 7, np.float32)
    built(lambda: torch.from_numpy(memory[begin : begin + numbers]).normal_())
    assert not memory[begin : begin + numbers].any()
    assert (np.delete(memory, slice(begin, begin + numbers)) == 7).all()


def test_memory_that_processes_share_is_written():
    shared = sevens(*LARGE).share_memory_()
    built(shared.normal_)
    assert not shared.any()


COPIES = {
    "clone": torch.clone,
    "bfloat16": lambda tensor: tensor.to(torch.bfloat16),
    "float64": torch.Tensor.double,
    "deepcopy": lambda tensor: copy.deepcopy(nn.Parameter(tensor)).data,
    "other layout": lambda tensor: tensor.clone(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_of_what_is_not_drawn_is_zeros_of_its_own(copied):
    def build():
        tensor = sevens(4, 8, 16, 16).normal_()
        copied(sevens(4, 8, 16, 16))  # memory that is used again
        return tensor, copied(tensor), copied(torch.ones(4, 8, 16, 16))

    tensor, copy_, ones = built(build)
    assert not copy_.any()
    assert (ones == 1).all()
    assert copy_.data_ptr() != tensor.data_ptr()
    assert (copy_.dtype, copy_.shape, copy_.stride()) == (ones.dtype, ones.shape, ones.stride())


def test_a_copy_for_the_card_is_there():
    (copied,) = built(lambda: [sevens(*LARGE).normal_().to("cuda")])
    assert copied.is_meta


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory that it provides")
def test_a_model_in_half_of_its_precision_takes_no_memory_of_the_host():
    def provided_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def build():
        before = provided_bytes()
        layers = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(16))).to(torch.bfloat16)
        return layers, provided_bytes() - before

    assert built(build)[1] < 2**24  # of 256 MiB, and half as much again


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


def test_what_pytorch_asks_of_values_that_it_draws_on_the_card_is_no_read_of_the_step(recwarn):
    def build():
        weight = torch.empty(64, 64, device="cuda")
        nn.init.trunc_normal_(weight)
        return weight, weight.sum().item()

    _, number = built(build)
    assert number == 0
    (told,) = (each.message for each in recwarn if isinstance(each.message, AssumedValue))
    assert "weight.sum().item()" in told.place
