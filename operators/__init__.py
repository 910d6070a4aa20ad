"""The forward models A of inverse problems y = A(x) + noise.

A module of this package that holds an operator holds one, decorated with ``operators.base.register``: adding an
operator means adding one file. The modules, and torch with them, are imported on the first look-up.
"""

from __future__ import annotations

import importlib
import pkgutil
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
        UnknownOperatorError: no module of this package registers that name.
    """
    registry = _registry()
    if name not in registry:
        raise UnknownOperatorError(f"unknown operator {name!r}; known: {', '.join(sorted(registry))}")
    return registry[name]


def names() -> list[str]:
    """The names of all operators, sorted."""
    return sorted(_registry())


def _registry() -> dict[str, type[Operator]]:
    """Every registered class by name, after each module of the package has had its chance to register."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    from .base import registry

    return registry
