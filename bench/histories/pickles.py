"""Plain data out of a pickle, of which nothing is run.

A pickle is a program: it may import and call whatever it likes. PyTorch's memory snapshots need none of it, so that
whoever reads them without imports reads dictionaries, lists, texts and numbers, or refuses.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, NoReturn


class NotPlainError(ValueError):
    """A pickle is damaged, or has more than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise NotPlainError(f"it wants to import {module[:60]}.{name[:60]}")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise NotPlainError("it refers to something outside itself")


def plain_data(content: bytes) -> Any:
    """What a pickle of protocol 0 to 5 has, in dict, list, tuple, set, str, bytes, int, float, bool and None.

    Raises:
        NotPlainError: it is no pickle, is cut short, or wants to import something.
    """
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except NotPlainError:
        raise
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
        *(MemoryError, OverflowError, RecursionError),
    ) as error:
        raise NotPlainError(" ".join(str(error).split())[:120] or type(error).__name__) from error
