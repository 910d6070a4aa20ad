"""A training step that a user names: FILE.py:FUNCTION or MODULE:FUNCTION."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bench.errors import UsageError
from bench.user_module import load_module


def load_step(name: str) -> Callable[..., Any]:
    """The function that a name stands for; its file or module is run, as an import runs it.

    Raises:
        UsageError: there is no such file, module or function, or running it fails, with the line at which it does.
    """
    where, _, function = name.rpartition(":")
    if not where or not function.isidentifier():
        raise UsageError(f"{name!r} names no step: expected FILE.py:FUNCTION or MODULE:FUNCTION: train.py:make_step")
    module = load_module(where, "step")
    step = getattr(module, function, None)
    if callable(step):
        return step  # type: ignore[no-any-return]
    if step is not None:
        raise UsageError(f"{name}: {function} is no function: it is {type(step).__name__}")
    functions = [each for each in vars(module).values() if inspect.isfunction(each)]
    own = [each.__name__ for each in functions if each.__module__ == module.__name__]
    there = f"it has {', '.join(own)}" if own else "it has no functions"
    raise UsageError(f"{where} has no function {function}: {there}")
