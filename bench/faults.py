"""A fault of bench itself: one sentence, and a file for whoever mends it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import bench

_SHORT = 200
_VERSIONS = ("torch", "numpy", "pydantic", "typer", "matplotlib", "pandas")


def reported(error: BaseException) -> str:
    """Write an unforeseen exception into a file of its own, and say which; without any place for it, it follows.

    The file lies in the folder for temporary files (TMPDIR). It has the traceback, the command line and versions.
    """
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, MemoryError):
        cause = f"memory ran out ({shortened(what)}), which fewer --jobs or smaller sizes may mend; if not,"
    else:
        cause = f"a fault of bench itself, and not of yours ({shortened(what)}):"
    content = f"{_circumstances()}\n{traceback_of(error)}"
    try:
        descriptor, path = tempfile.mkstemp(prefix="bench-fault-", suffix=".txt")
    except OSError:
        return f"{cause} please report it, with this:\n{content}"
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        return f"{cause} please report it, with this:\n{content}"
    return f"{cause} please report it, with {path}, which has the traceback"


def traceback_of(error: BaseException) -> str:
    """The traceback, with that of the worker where it was raised in one."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def shortened(text: str) -> str:
    """A text as a part of a sentence: on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 3]}..."


def _circumstances() -> str:
    lines = [f"command: {shlex.join(['bench', *sys.argv[1:]])}", f"bench {bench.__version__}"]
    lines.append(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}")
    for package in _VERSIONS:
        with suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return "\n".join(lines) + "\n"
