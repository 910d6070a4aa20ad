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
from bench.memory.recording.refusals import is_of_missing_data


def load_module(where: str, kind: str) -> ModuleType:
    """A file FILE.py or a module of the user's, run as an import runs it; a file is the module FILE__KIND.

    Raises:
        UsageError: there is no such file or module, or running it fails, with the line at which it does.
    """
    if where.endswith(".ipynb"):
        raise UsageError(
            f"{where} is a notebook: write the step into a file, or ask there, as by bench.largest_batch(make_step, "
            'gpu="RTX 4090")'
        )
    arguments, sys.argv = sys.argv, [where]
    try:
        return _of_file(Path(where), kind) if where.endswith(".py") else _of_module(where)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{where} {_why_not(error, where)}") from error
    finally:
        sys.argv = arguments


_BELOW = "belongs below __name__ == '__main__'"


def _why_not(error: BaseException, where: str) -> str:
    """Why a module cannot be run as an import, with its line, and what to do."""
    place = places.place(error) or where
    if isinstance(error, SystemExit):
        reads = "argparse.py:" in place
        return f"ends the program ({place}): what {'reads a command line' if reads else 'trains'} {_BELOW}"
    if isinstance(error, Exception) and is_of_missing_data(error):
        return f"trains as it is imported ({place}): what trains {_BELOW}"
    what = ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        path = Path(where).resolve()
        module = f"{path.parent.name}.{path.stem}"
        what = f": its folder has no __init__.py; name it from the folder above, {module}:FUNCTION"
    return f"cannot be imported: {places.told(error)} ({place}){what}"


def _of_file(path: Path, kind: str) -> ModuleType:
    """The file as a module of its own, which finds its neighbours as a script does, and as its package does."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    folder = path.parent.resolve()
    above, packages = folder, list[str]()
    while (above / "__init__.py").is_file():
        packages.insert(0, above.name)
        above = above.parent
    for each in map(str, (above, folder)):
        if each not in sys.path:
            sys.path.insert(0, each)
    spec = importlib.util.spec_from_file_location(".".join([*packages, f"{path.stem}__{kind}"]), path.resolve())
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
