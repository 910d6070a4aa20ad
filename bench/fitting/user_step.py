"""A training step that a user names: FILE.py:FUNCTION or MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UsageError
from bench.memory.recording import places


def load_step(name: str) -> Callable[..., Any]:
    """The function that a name stands for; its file or module is run, as an import runs it.

    Raises:
        UsageError: there is no such file, module or function, or running it fails, with the line at which it does.
    """
    where, _, function = name.rpartition(":")
    if not where or not function.isidentifier():
        raise UsageError(f"{name!r} names no step: expected FILE.py:FUNCTION or MODULE:FUNCTION: train.py:make_step")
    arguments, sys.argv = sys.argv, [where]
    try:
        module = _of_file(Path(where)) if where.endswith(".py") else _of_module(where)
    except UsageError:
        raise
    except SystemExit as error:
        what = f"ends the program ({places.place(error) or where}): what trains belongs below __name__ == '__main__'"
        raise UsageError(f"{where} {what}") from error
    except Exception as error:
        reason = f"{places.told(error)} ({places.place(error) or where})"
        raise UsageError(f"{where} cannot be imported: {reason}") from error
    finally:
        sys.argv = arguments
    step = getattr(module, function, None)
    if callable(step):
        return step  # type: ignore[no-any-return]
    if step is not None:
        raise UsageError(f"{name}: {function} is no function: it is {type(step).__name__}")
    functions = [each for each in vars(module).values() if inspect.isfunction(each)]
    own = [each.__name__ for each in functions if each.__module__ == module.__name__]
    there = f"it has {', '.join(own)}" if own else "it has no functions"
    raise UsageError(f"{where} has no function {function}: {there}")


def _of_file(path: Path) -> ModuleType:
    """The file as a module of its own, which finds its neighbours as a script does."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"{path.stem}__step", path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _of_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"there is no module {error.name}: not in the working folder, and none is installed"
        ) from error
