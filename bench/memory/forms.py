"""The forms in which a training step is given, made one: make_step(batch, device).

| form | what it does |
|---|---|
| make_step(batch, device) | builds model and optimiser on `device`, returns one training step |
| make_step(batch) | the same, and says itself where things are |
| step(batch) | is itself one training step: returns nothing, or its loss |
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch

from bench.memory.recording.recorder import MakeStep


class WrongFormError(ValueError):
    """A function is none of these forms: what it is, with its file and line."""


def as_make_step(function: Callable[..., Any]) -> MakeStep:
    """`function`, which has one of the forms above, as make_step(batch, device).

    Raises:
        WrongFormError: it takes other arguments; also when it is called, if it returns something else.
    """
    takes_device = _takes_device(function)

    def make_step(batch: int, device: torch.device) -> Callable[[], object]:
        arguments = (batch, device) if takes_device else (batch,)
        made = function(*arguments)
        if isinstance(made, torch.nn.Module):
            name = type(made).__name__
            raise WrongFormError(f"{_called(function)} returned a module, {name}: it must return one training step")
        if callable(made):
            return made  # type: ignore[no-any-return]
        if not takes_device and (made is None or isinstance(made, (torch.Tensor, float, int))):
            return lambda: function(*arguments)
        raise WrongFormError(f"{_called(function)} returned {made!r:.60}: it must return one training step")

    return make_step


def _takes_device(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function of C
        return True
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    required = [each for each in positional if each.default is each.empty]
    more = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    if not positional or len(required) > 2 or more:
        raise WrongFormError(
            f"{_called(function)}{inspect.signature(function)} is no step: expected make_step(batch, device), "
            "make_step(batch) or step(batch)"
        )
    return len(required) == 2 or (len(positional) > 1 and positional[1].name == "device")


def _called(function: Callable[..., Any]) -> str:
    """A function with its file and line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}: {name}" if code else name
