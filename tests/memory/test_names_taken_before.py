"""Functions that a program took out of torch before it is recorded, as `from torch import rand` does."""

import numpy
import pytest
import torch
from torch import as_tensor, asarray, tensor

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

CALLS = {
    "empty": [(3, 300)],
    "empty_like": [torch.ones(300)],
    "empty_strided": [(3, 300), (300, 1)],
    "zeros": [(3, 300)],
    "zeros_like": [torch.ones(300)],
    "ones": [(3, 300)],
    "full": [(3, 300), 2.0],
    "full_like": [torch.ones(300), 2.0],
    "arange": [700],
    "linspace": [0, 1, 700],
    "logspace": [0, 1, 700],
    "eye": [30],
    "scalar_tensor": [2.0],
    "rand": [3, 300],
    "rand_like": [torch.ones(300)],
    "randn": [3, 300],
    "randn_like": [torch.ones(300)],
    "randint": [7, (3, 300)],
    "randperm": [300],
    "normal": [0.0, 1.0, (3, 300)],
    "tril_indices": [30, 30],
    "hann_window": [300],
}


def events(make):
    """What `make()` allocates and frees within a step taken for one on a GPU, and what it says of its tensor."""
    said = []

    def make_step(batch):
        def step():
            tensor = make()
            said.append((str(tensor.device), tensor.is_cuda, tuple(tensor.shape), tensor.dtype))
            (tensor + 1).sum()

        return step

    with on_cuda():
        found = events_of(lambda batch, device: make_step(batch), 2, 1)
    return [(event.key, event.size_bytes) for event in found], said


@pytest.mark.parametrize("name", CALLS)
def test_a_name_taken_before_does_what_torch_does(name):
    taken = getattr(torch, name)
    found, said = events(lambda: taken(*CALLS[name], device="cuda"))
    assert (found, said) == events(lambda: getattr(torch, name)(*CALLS[name], device="cuda"))
    assert said[0][:2] == ("cuda:0", True)


def test_with_a_generator_of_the_gpu():
    taken = torch.rand
    found, _ = events(lambda: taken(300, device="cuda", generator=torch.Generator(device="cuda")))
    assert found == events(lambda: torch.rand(300, device="cuda"))[0]


@pytest.mark.parametrize(
    ("taken", "name", "numbers"),
    [
        (lambda numbers: tensor(numbers, device="cuda"), "tensor", [1.0] * 300),
        (lambda numbers: as_tensor(numbers, device="cuda"), "as_tensor", numpy.ones(300)),
        (lambda numbers: asarray(numbers, device="cuda"), "asarray", [1.0] * 300),
    ],
)
def test_a_name_of_a_module_does_what_torch_does(taken, name, numbers):
    found, said = events(lambda: taken(numbers))
    assert (found, said) == events(lambda: getattr(torch, name)(numbers, device="cuda"))
    assert said[0][:2] == ("cuda:0", True)


def test_afterwards_names_are_as_before():
    events(lambda: tensor([1.0], device="cuda"))
    assert tensor is torch.tensor
    assert tensor([1.0]).device.type == "cpu"
