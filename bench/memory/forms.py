"""The forms in which a training step is given, made one: make_step(batch, device).

| form | what it does |
|---|---|
| make_step(batch, device) | builds model and optimiser on `device`, returns one training step |
| make_step(batch) | the same, and says itself where things are |
| step(batch) | is itself one training step: returns nothing, or what it found, such as its loss |
| step(batch, device) | the same, told where: returns what it found |

The number of samples is the first argument that is required, or one that is named `batch` or `batch_size` where
arguments are given by name alone; the device is one named `device`, wherever it stands, or the second. Instead of
returning a step, a function may yield after each: a generator is a training loop.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.memory.recording import places
from bench.memory.recording.recorder import MakeStep

EXPECTED = "make_step(batch, device), make_step(batch) or step(batch)"
_NO_BATCH = {
    *("self", "cls", "model", "net", "network", "module", "optimizer", "optim", "opt", "criterion", "loss_fn"),
    *("loader", "dataloader", "train_loader", "dataset", "data", "inputs", "args", "cfg", "config", "epoch"),
    *("rank", "local_rank", "world_size", "gpu"),
}
_LIKELY_STEPS = ("step", "train_step", "training_step", "train_batch", "train")
_OF_A_NUMBER = ("'int' object", "int object", "a 0-d", "object of type 'int'", "argument of type 'int'")


class WrongFormError(ValueError):
    """A function is none of these forms: what it is, with its file and line."""


def as_make_step(function: Callable[..., Any]) -> MakeStep:
    """`function`, which has one of the forms above, as make_step(batch, device).

    Raises:
        WrongFormError: it takes other arguments; also when it is called, if it returns something else, or takes the
            number of samples for the samples.
    """
    takes = _taken(function)

    def make_step(batch: int, device: torch.device) -> Callable[[], object]:
        def call() -> Any:
            return takes.call(function, batch, device)

        made = _given_a_number(function, call)
        if isinstance(made, torch.nn.Module):
            name = type(made).__name__
            raise WrongFormError(f"{_called(function)} returned a module, {name}: it must return one training step")
        if inspect.iscoroutine(made):
            raise _is_async(function, made)
        if isinstance(made, Generator):
            return _loop(function, made)
        if callable(made):
            return _that_runs(made)
        if _is_result(made) and not (made is None and takes.device):
            return lambda: _given_a_number(function, call)
        raise WrongFormError(f"{_called(function)} returned {_told(made)}: it must return one training step")

    return make_step


class _Taken(NamedTuple):
    """Which arguments a function is given: in order, and by name; each is "batch" or "device"."""

    in_order: tuple[str, ...]
    by_name: Mapping[str, str]

    @property
    def device(self) -> bool:
        return "device" in (*self.in_order, *self.by_name.values())

    def call(self, function: Callable[..., Any], batch: int, device: torch.device) -> Any:
        values = {"batch": batch, "device": device}
        named = {name: values[what] for name, what in self.by_name.items()}
        return function(*(values[what] for what in self.in_order), **named)


def _taken(function: Callable[..., Any]) -> _Taken:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a function of C
        return _Taken(("batch", "device"), {})
    parameters = list(signature.parameters.values())
    in_order = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    alone = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    required = [each for each in in_order if each.default is each.empty and each.name != "device"]
    by_name = [each for each in alone if each.name in ("batch", "batch_size")]
    batch = (required or by_name or [each for each in in_order if each.name != "device"])[:1]
    device = [each for each in (*in_order, *alone) if each.name == "device"] or required[1:2]
    given = {each.name: what for each, what in (*((each, "batch") for each in batch), *((d, "device") for d in device))}
    missing = [each.name for each in (*in_order, *alone) if each.default is each.empty and each.name not in given]
    foreign = [each.name for each in required if each.name in _NO_BATCH]
    if not batch or missing or foreign:
        is_method = foreign[:1] == ["self"]
        what = (
            f", as by `def make_step(batch): return {_owner(function)}(batch).{function.__name__}`"
            if is_method
            else f", which makes {', '.join(foreign)} itself"
            if foreign
            else ""
        )
        raise WrongFormError(f"{_called(function)}{signature} is no step: expected {EXPECTED}{what}")
    leading = []
    for each in in_order:
        if each.name not in given:
            break
        leading.append(given.pop(each.name))
    return _Taken(tuple(leading), given)


def _given_a_number(function: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """What a call gives; an error that comes of taking `batch` for the samples themselves says so."""
    try:
        return call()
    except (TypeError, AttributeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        code = getattr(inspect.unwrap(function), "__code__", None)
        is_its_own = code is not None and (last.filename, last.name) == (code.co_filename, code.co_name)
        if not is_its_own or not any(each in str(error) for each in _OF_A_NUMBER):
            raise
        raise WrongFormError(
            f"{_called(function)} is given a number, how many samples: it must make them itself, as by "
            f"torch.rand(batch, 3, 224, 224): {places.sentence(error)}"
        ) from error


def _that_runs(step: Callable[[], Any]) -> Callable[[], Any]:
    """A step, which must not be a generator's or coroutine's function: calling such a one runs nothing."""

    def run() -> Any:
        result = step()
        if inspect.iscoroutine(result):
            raise _is_async(step, result)
        if isinstance(result, Generator):
            raise WrongFormError(
                f"{_called(step)} yields, so that calling it runs nothing: return what it gives, `return step()`"
            )
        return result

    return run


def _is_async(function: Callable[..., Any], made: Any) -> WrongFormError:
    made.close()
    return WrongFormError(f"{_called(function)} is async: calling it runs nothing; let the step be asyncio.run(...)")


def _loop(function: Callable[..., Any], made: Generator[Any, Any, Any]) -> Callable[[], object]:
    """A training loop that yields after each step."""

    def step() -> None:
        try:
            next(made)
        except StopIteration:
            raise WrongFormError(
                f"{_called(function)} ends after few steps: it must yield after each, as often as it is asked"
            ) from None

    return step


def _is_result(made: Any) -> bool:
    """Whether this is what a step may have found, such as its loss, and not what a step would be made of."""
    if made is None or isinstance(made, (torch.Tensor, float, int, np.ndarray, np.generic)):
        return True
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        made = [getattr(made, field.name) for field in dataclasses.fields(made)]
    elif isinstance(made, Mapping):
        made = list(made.values())
    return isinstance(made, (list, tuple)) and bool(made) and all(map(_is_result, made))


def _told(made: Any) -> str:
    """A thing that is no step, in a few words."""
    if isinstance(made, (list, tuple)) and not _is_result(made):
        return f"a {type(made).__name__} of {', '.join(type(each).__name__ for each in made)}"
    if made is None or isinstance(made, (str, int, float, dict)):
        return f"{made!r:.60}"
    methods = [each for each in _LIKELY_STEPS if callable(getattr(made, each, None))]
    return f"an object, {type(made).__name__}" + (f", and not its method {methods[0]}" if methods else "")


def _owner(function: Callable[..., Any]) -> str:
    """The class of a method."""
    return function.__qualname__.split(".")[-2] if "." in getattr(function, "__qualname__", "") else "Trainer"


def _called(function: Callable[..., Any]) -> str:
    """A function with its file and line."""
    own = inspect.unwrap(function)
    code = getattr(own, "__code__", None) or getattr(getattr(own, "__init__", None), "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}: {name}" if code else name
