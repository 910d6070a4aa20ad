"""Optimisers that take no step while a step is recorded are named, if their parameters have gradients."""

import gc
import warnings

import pytest
import torch
from torch.optim import optimizer as optimizers

from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.recorder import events_of
from bench.memory.recording.updates import updates_noted


def said(program):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with updates_noted():
            held = program()
        del held
    return [str(each.message) for each in heard if issubclass(each.category, NotRecordedWarning)]


def weights(*has_gradient):
    made = [torch.zeros(2, requires_grad=True) for _ in has_gradient]
    for weight, has in zip(made, has_gradient, strict=True):
        weight.grad = torch.zeros(2) if has else None
    return made


@pytest.mark.parametrize(("has_gradient", "times"), [((True,), 1), ((False, True), 1), ((False, False), 0)])
def test_one_that_takes_no_step_is_named(has_gradient, times):
    found = said(lambda: torch.optim.SGD(weights(*has_gradient), 0.1))
    assert len(found) == times
    assert all(each.startswith("SGD (") and "takes no step in the calls" in each for each in found)


def test_one_that_steps_is_not():
    def program():
        steps, waits = (kind(weights(True), 0.1) for kind in (torch.optim.Adagrad, torch.optim.Adam))
        steps.step()
        return steps, waits

    (found,) = said(program)
    assert found.startswith("Adam (")


def test_one_that_is_gone_is_not():
    def program():
        torch.optim.SGD(weights(True), 0.1)
        gc.collect()

    assert said(program) == []


@pytest.mark.parametrize(("steps", "times"), [(1, 0), (2, 1), (3, 1)])
def test_an_optimiser_has_two_steps_of_a_recording_to_take_one(steps, times):
    def make_step(batch, device):
        weight = torch.zeros(2, device=device, requires_grad=True)
        optimizer = torch.optim.Adam([weight])
        return lambda: (weight.sum().backward(), optimizer)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        events_of(make_step, 1, steps)
    assert [each.category for each in heard] == [NotRecordedWarning] * times


def test_afterwards_nothing_is_noted():
    before, begin = len(optimizers._global_optimizer_pre_hooks), optimizers.Optimizer.__init__
    assert len(said(lambda: torch.optim.SGD(weights(True), 0.1))) == 1
    assert (len(optimizers._global_optimizer_pre_hooks), optimizers.Optimizer.__init__) == (before, begin)
