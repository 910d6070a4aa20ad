"""The forward models A of inverse problems y = A(x) + noise.

Adding an operator means adding one file: every `Operator` subclass in it that has a ``name`` is found. The modules, and
torch with them, are imported on the first look-up.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Operator


class UnknownOperatorError(KeyError):
    """The name of no operator; the message lists the known ones."""

    def __str__(self) -> str:
        return str(self.args[0])


def get(name: str) -> type[Operator]:
    """The operator class called ``name``.

    Raises:
        UnknownOperatorError: there is none; the message lists those there are.
    """
    found = _discovered()
    if name not in found:
        raise UnknownOperatorError(f"unknown operator {name!r}; known: {', '.join(sorted(found))}")
    return found[name]


def names() -> list[str]:
    """The names of all operators, sorted."""
    return sorted(_discovered())


@cache
def _discovered() -> dict[str, type[Operator]]:
    from .base import Operator
    from .discovery import named_classes

    return named_classes(sys.modules[__name__], Operator)
