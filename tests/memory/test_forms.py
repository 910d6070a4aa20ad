"""The forms in which a step may be given: what each is called with, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
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
    assert as_make_step(max)(3, 7)() == 7


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda a, b, c: None, lambda *, count: None, lambda batch, *, width: None],
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
    ],
)
def test_other_results_are_refused(function, message):
    with pytest.raises(WrongFormError, match=message):
        as_make_step(function)(3, META)


@pytest.mark.parametrize(
    ("function", "called_with"),
    [
        (lambda *, batch: lambda: (batch,), (3,)),
        (lambda *, batch_size, device="cuda": lambda: (batch_size, device), (3, META)),
        (lambda device, batch_size: lambda: (batch_size, device), (3, META)),
        (lambda batch_size=32, rate=0.1, device="cuda": lambda: (batch_size, device), (3, META)),
        (partial(lambda width, batch, device: lambda: (batch, device), 8), (3, META)),
        (partial(lambda width, batch, device: lambda: (batch, device), width=8), (3, META)),
        (lambda batch, device, /: lambda: (batch, device), (3, META)),
        (lambda *, batch, batch_size=8: lambda: (batch, batch_size), (3, 8)),
    ],
)
def test_arguments_go_by_their_names(function, called_with):
    assert as_make_step(function)(3, META)() == called_with


@dataclass
class Found:
    loss: torch.Tensor
    correct: int


@pytest.mark.parametrize(
    "found",
    [
        {"loss": 0.5, "correct": torch.zeros(())},
        (0.5, np.zeros(3)),
        Found(torch.zeros(()), 3),
        [torch.zeros(2), {"all": (1, None)}],
    ],
)
def test_a_step_may_say_what_it_found(found):
    calls = []

    def step(batch, device):
        calls.append((batch, device))
        return found

    assert watched(calls, step) == ([(3, META)], [(3, META)] * 2)


def test_a_loop_that_yields_after_each_step():
    ran = []

    def train(batch):
        for number in range(3):
            ran.append((batch, number))
            yield

    step = as_make_step(train)(3, META)
    assert not ran
    for _ in range(3):
        step()
    assert ran == [(3, 0), (3, 1), (3, 2)]
    with pytest.raises(WrongFormError, match=r"train ends after few steps: it must yield after each"):
        step()


class Trainer:
    def __init__(self, batch): ...

    def train_step(self): ...


class Experiment:
    def update(self, model): ...


async def asynchronous(batch): ...


def makes_asynchronous(batch):
    async def step(): ...

    return step


def yields(batch):
    def step():
        yield

    return step


def takes_samples(batch):
    _images, _labels = batch


def takes_a_dictionary(batch):
    return batch["images"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Trainer, r"test_forms\.py:\d+: Trainer returned an object, Trainer, and not its method train_step: it must"),
        (asynchronous, r"asynchronous is async: calling it runs nothing; let the step be asyncio\.run"),
        (
            makes_asynchronous,
            r"test_forms\.py:\d+: step is async: calling it runs nothing; let the step be asyncio\.run",
        ),
        (lambda batch: (torch.nn.Identity(), 3), r"returned a tuple of Identity, int: it must return one"),
        (yields, r"test_forms\.py:\d+: step yields, so that calling it runs nothing: return what it gives"),
        (
            takes_samples,
            r"test_forms\.py:\d+: takes_samples is given a number, how many samples: it must make them itself, as by "
            r"torch\.rand\(batch, 3, 224, 224\): TypeError: cannot unpack non-iterable int object \(.*"
            r"test_forms\.py:\d+, in takes_samples: `_images, _labels = batch`\)",
        ),
        (takes_a_dictionary, r"is given a number, how many samples: .*`return batch\[\"images\"\]`"),
    ],
)
def test_what_is_near_a_step_is_told_what_lacks(function, message, recwarn):
    with pytest.raises(WrongFormError, match=message):
        as_make_step(function)(3, META)()
    assert not recwarn.list  # of a coroutine that nobody awaited


def train_step(model, batch): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (train_step, r"train_step\(model, batch\) is no step: expected .*, which makes model itself"),
        (
            Trainer.train_step,
            r"\(self\) is no step: .*as by `def make_step\(batch\): return Trainer\(batch\)\.train_step`",
        ),
        (
            Experiment.update,
            r"\(self, model\) is no step: .*`def make_step\(batch\): return Experiment\(batch\)\.update`",
        ),
        (lambda batch, width, device: None, r"\(batch, width, device\) is no step: expected"),
    ],
)
def test_arguments_that_are_no_batch(function, message):
    with pytest.raises(WrongFormError, match=message):
        as_make_step(function)


def test_an_error_of_the_steps_own_stays_what_it_is():
    def helper(count):
        return count["images"]

    with pytest.raises(TypeError, match="'int' object is not subscriptable"):
        as_make_step(lambda batch: helper(batch))(3, META)


def test_an_error_that_has_nothing_to_do_with_numbers_stays_what_it_is():
    def step(batch):
        raise TypeError("of the step's own")

    with pytest.raises(TypeError, match=r"^of the step's own$") as raised:
        as_make_step(step)(3, META)()
    assert raised.type is TypeError
