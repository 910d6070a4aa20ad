"""A training step that a user names: FILE.py:FUNCTION or MODULE:FUNCTION."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch

from bench.errors import UsageError
from bench.memory.forms import as_make_step
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import MakeStep
from bench.user_module import load_module


def load_make_step(name: str) -> MakeStep:
    """The step that a name stands for, as make_step(batch, device).

    What makes tensors as it is imported, as a model beside its step, is imported anew with every step: each begins with
    a model that no other has trained. So is what asks which card there is.

    Raises:
        UsageError: as from `load_step`.
        WrongFormError: it is no step.
    """
    before, default = _tensors_there(), torch.get_default_device()
    with on_cuda() as asked:
        make_step = as_make_step(load_step(name))
    if _tensors_there() <= before and torch.get_default_device() == default and not asked.is_about_card:
        return make_step

    def make_anew(batch: int, device: torch.device) -> Callable[[], object]:
        sys.modules.pop(name.rpartition(":")[0], None)
        return as_make_step(load_step(name))(batch, device)

    return make_anew


def _tensors_there() -> int:
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def load_step(name: str) -> Callable[..., Any]:
    """The function that a name stands for; its file or module is run, as an import runs it.

    Raises:
        UsageError: there is no such file, module or function, or running it fails, with the line at which it does.
    """
    where, _, function = name.rpartition(":")
    if not where or not all(part.isidentifier() for part in function.split(".")):
        raise UsageError(f"{name!r} names no step: expected FILE.py:FUNCTION or MODULE:FUNCTION: train.py:make_step")
    module = load_module(where, "step")
    step: Any = module
    for part in function.split("."):  # a function of a class is Trainer.make_step
        step = getattr(step, part, None)
    if callable(step):
        return step  # type: ignore[no-any-return]
    if step is not None:
        raise UsageError(f"{name}: {function} is no function: it is {type(step).__name__}")
    functions = [each for each in vars(module).values() if inspect.isfunction(each)]
    own = [each.__name__ for each in functions if each.__module__ == module.__name__]
    there = f"it has {', '.join(own)}" if own else "it has no functions"
    raise UsageError(f"{where} has no function {function}: {there}")
