"""A file or a module of the user's, run as an import runs it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from bench.errors import UsageError
from bench.memory.recording import places


def load_module(where: str, kind: str) -> ModuleType:
    """A file FILE.py or a module of the user's, run as an import runs it; a file is the module FILE__KIND.

    Raises:
        UsageError: there is no such file or module, or running it fails, with the line at which it does.
    """
    arguments, sys.argv = sys.argv, [where]
    try:
        return _of_file(Path(where), kind) if where.endswith(".py") else _of_module(where)
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


def _of_file(path: Path, kind: str) -> ModuleType:
    """The file as a module of its own, which finds its neighbours as a script does."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"{path.stem}__{kind}", path.resolve())
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
