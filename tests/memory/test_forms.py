"""The forms in which a step may be given: what each is called with, and how often."""

from __future__ import annotations

import pytest
import torch

from bench.memory.forms import WrongFormError, as_make_step

META = torch.device("meta")


def watched(calls, function):
    """What a step of this form is called with: once to make it, twice to run it."""
    step = as_make_step(function)(3, META)
    made = list(calls)
    calls.clear()
    step()
    step()
    return made, calls


def test_a_maker_of_steps_is_called_once_with_batch_and_device():
    calls = []

    def by_name(batch, device=None):
        calls.append((batch, device))
        return lambda: None

    def by_place(count, where):
        calls.append((count, where))
        return lambda: None

    def with_more(batch, device=None, width=8):
        calls.append((batch, device, width))
        return lambda: None

    assert watched(calls, by_name) == ([(3, META)], [])
    calls.clear()
    assert watched(calls, by_place) == ([(3, META)], [])
    calls.clear()
    assert watched(calls, with_more) == ([(3, META, 8)], [])


def test_a_maker_that_knows_its_device_is_called_with_the_batch_alone():
    calls = []

    def make_step(batch, width=8):
        calls.append((batch, width))
        return lambda: None

    assert watched(calls, make_step) == ([(3, 8)], [])


@pytest.mark.parametrize("result", [None, torch.zeros(()), 0.5, 1])
def test_a_step_is_called_each_time_and_returns_nothing_or_its_loss(result):
    calls = []

    def step(batch):
        calls.append(batch)
        return result

    assert watched(calls, step) == ([3], [3, 3])


def test_a_function_of_c_has_both_arguments():
    with pytest.raises(WrongFormError, match="max returned 7: it must return one training step"):
        as_make_step(max)(3, 7)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda a, b, c: None, lambda *, batch: None, lambda batch, *, width: None],
)
def test_other_arguments_are_refused(function):
    with pytest.raises(
        WrongFormError, match=r"test_forms\.py:\d+: <lambda>\(.*\) is no step: expected make_step\(batch"
    ):
        as_make_step(function)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda batch: torch.nn.Identity(), r"<lambda> returned a module, Identity: it must return one training step"),
        (lambda batch: "loss", r"<lambda> returned 'loss': it must return one training step"),
        (lambda batch, device: None, r"<lambda> returned None: it must return one training step"),
        (lambda batch, device: 0.5, r"<lambda> returned 0.5: it must return one training step"),
    ],
)
def test_other_results_are_refused(function, message):
    with pytest.raises(WrongFormError, match=message):
        as_make_step(function)(3, META)
