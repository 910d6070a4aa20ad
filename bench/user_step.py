"""A training step of the user's own, by name: FILE.py:FUNCTION or MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UsageError

_BENCH = os.path.dirname(os.path.abspath(__file__)) + os.sep


def load_step(name: str) -> Callable[..., Any]:
    """The function that a name means; the files beside it can be imported by it, as when Python runs it.

    Raises:
        UsageError: no such file, module or function, or its code fails while it is imported: with file and line.
    """
    place, _, function = name.rpartition(":")
    if not (place and function.isidentifier()):
        raise UsageError(f"--step: got {name[:80]!r}, expected FILE.py:FUNCTION or MODULE:FUNCTION")
    module = _imported(place)
    found = getattr(module, function, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if _is_made_there(value, module) and key[0] != "_"]
        has = f"it has {', '.join(there)}" if there else "it has none"
        raise UsageError(f"--step: {place} has no function {function}: {has}")
    return found  # type: ignore[no-any-return]


def failed(name: str, error: Exception) -> UsageError | None:
    """The error of a called step with its line, as one sentence; None if it went through no line of the user's."""
    line = _line(error)
    what = " ".join(str(error).split())
    return UsageError(f"--step {name}: {line}: {type(error).__name__}: {what}") if line else None


def _is_made_there(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _imported(place: str) -> ModuleType:
    path = Path(place)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise UsageError(f"--step: there is no file {place}")
    folder = os.path.abspath(path.parent) if is_file else os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _of_file(path) if is_file else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not is_file and error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise UsageError(f"--step: there is no module {place}, seen from {folder}") from error
        raise _failed(place, error) from error
    except Exception as error:
        raise _failed(place, error) from error


def _of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _failed(place: str, error: Exception) -> UsageError:
    """The error of the user's code, with the innermost line of it that is not of an installed library."""
    where = _line(error) or place
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{os.path.basename(error.filename)}:{error.lineno}"
    what = " ".join(str(error).split())
    return UsageError(f"--step: {place} cannot be imported: {where}: {type(error).__name__}: {what}")


def _line(error: Exception) -> str:
    """The innermost line of the user's that an error went through; "" if it went through none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f"{os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _is_users(file: str) -> bool:
    return not file.startswith(("<", os.path.dirname(os.__file__), _BENCH)) and "site-packages" not in file
