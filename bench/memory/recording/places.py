"""Where in somebody's program an error arose, as one reads it: the user's line, and the library's beside it.

The user's are the frames outside of Python's standard library, of installed packages and of bench; where there are
none, as in a step that is itself installed, those outside of Python, PyTorch and bench.
"""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path

import torch

_PYTHON = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
_PACKAGES = re.compile(r".*[/\\](site|dist)-packages[/\\]")
_OURS = str(Path(__file__).parents[2]) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep
_NOT_OF_A_STEP = (_OURS, _TORCH)
_OF_TORCHRUN = re.compile(
    r"'(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT)'$|.*environment variable \w+ expected"
)
_ASK_AS_ONE_RANK = (
    ", which torchrun sets: ask with RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT=29500 before "
    "the command"
)
_MOST_CHARACTERS = 100  # of a source line
_MOST_OF_A_MESSAGE = 300
_NUMBERS = re.compile(r", but found invalid values: tensor\(.*")
_PYTORCHS_OWN_CHECK = re.compile(
    r'INTERNAL ASSERT FAILED at "(?:[^"]*/)?([^"/]*)":(\d+), please report a bug to PyTorch\.'
)


class SaidError(Exception):
    """An error of somebody's program, as `sentence` says it; its cause is the error itself."""


def sentence(error: BaseException) -> str:
    """The error and where it arose: "ValueError: no such mode (train.py:12, in step: `loss.backward()`)"."""
    if isinstance(error, SaidError):
        return str(error)
    where = place(error)
    return told(error) + (f" ({where})" if where else "")


def told(error: BaseException) -> str:
    """The error in one sentence, with its type: "ValueError: no such mode"."""
    message = _NUMBERS.sub("", " ".join(str(error).split()))
    message = _shortened(_PYTORCHS_OWN_CHECK.sub(r"fails (\1:\2)", message), _MOST_OF_A_MESSAGE)
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return said + _ASK_AS_ONE_RANK if _OF_TORCHRUN.match(message) else said


def place(error: BaseException) -> str:
    """Where an error arose: "train.py:12, in step: `loss.backward()`; raised at torch/autograd/graph.py:865", or "".

    The library's line is there only where the error is not the user's own.
    """
    if isinstance(error, SaidError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, SyntaxError) and error.filename:
        return _line(error.filename, error.lineno, None, error.text)
    frames = traceback.extract_tb(error.__traceback__)
    users = users_frame(frames)
    if users is None:
        return ""
    told_place = _line(users.filename, users.lineno, users.name, users.line)
    if frames[-1] is users or frames[-1].filename.startswith(_OURS):
        return told_place
    return f"{told_place}; raised at {short(frames[-1].filename)}:{frames[-1].lineno}"


def line_of(frames: traceback.StackSummary) -> str:
    """The user's line of a call stack, outermost frame first: "train.py:12, in step: `print(loss.item())`", or ""."""
    users = users_frame(frames)
    return _line(users.filename, users.lineno, users.name, users.line) if users else ""


def users_frame(frames: traceback.StackSummary) -> traceback.FrameSummary | None:
    """The innermost of the user's frames; None if there is none."""
    packages = [each for each in frames if _PACKAGES.match(each.filename)]
    others = [each for each in frames if not _PACKAGES.match(each.filename) and not _is_pythons(each.filename)]
    users = [each for each in others if not each.filename.startswith(_NOT_OF_A_STEP)]
    installed = [each for each in packages if not each.filename.startswith(_NOT_OF_A_STEP)]
    return next(reversed(users or installed), None)


def short(file: str) -> str:
    """A file as one calls it: from its package on, or from the working folder on if it is below that."""
    installed = _PACKAGES.match(file)
    if installed:
        return file[installed.end() :]
    for folder in _PYTHON:
        if file.startswith(folder):
            return file[len(folder) :]
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith(os.pardir) else relative


def _is_pythons(file: str) -> bool:
    return file.startswith(("<frozen", *_PYTHON))


def _line(file: str, number: int | None, function: str | None, text: str | None) -> str:
    where = f"{short(file)}:{number}" + (f", in {function}" if function and function != "<module>" else "")
    source = _shortened(" ".join((text or "").split()), _MOST_CHARACTERS)
    return f"{where}: `{source}`" if source else where


def _shortened(text: str, most_characters: int) -> str:
    return text if len(text) <= most_characters else text[:most_characters].rstrip() + " ..."
