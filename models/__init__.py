"""Networks that solve imaging inverse problems, by name.

Adding an architecture means adding one file to ``models/architectures``: every `Architecture` subclass in
it that has a ``name`` is found, whatever the file is called.

``import models`` is cheap; the first call of `get` or `names` imports torch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architectures.base import Architecture
    from .architectures.base import ModelOptions as Options

__all__ = ["Options", "get", "names"]


def names() -> list[str]:
    """Known architectures: the paper's, in the order of its tables, then any others by name."""
    return list(_discovered())


def get(name: str) -> type[Architecture]:
    """The architecture called `name`; its constructor takes ``(operator, options)``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    found = _discovered()
    if name not in found:
        raise ValueError(f"unknown architecture {name!r}; known architectures: {', '.join(found)}")
    return found[name]


def __getattr__(name: str) -> Any:
    if name == "Options":
        return _options()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _options() -> type[Options]:
    """`ModelOptions` with a table for each architecture that has options of its own: all that [model] may say."""
    from dataclasses import field, make_dataclass

    from .architectures.base import ModelOptions, NoOptions

    owners = {each.table(): each.Own for each in _discovered().values() if each.Own is not NoOptions}
    tables: list[tuple[str, type, Any]] = [
        (table, own, field(default_factory=own, metadata={"later": True, "own": True})) for table, own in owners.items()
    ]
    namespace = {"__doc__": ModelOptions.__doc__, "__module__": __name__}
    made: type[Options] = make_dataclass("Options", tables, bases=(ModelOptions,), frozen=True, namespace=namespace)
    return made


@cache
def _discovered() -> dict[str, type[Architecture]]:
    from bench.operators.discovery import named_classes

    from . import architectures
    from .architectures.base import Architecture

    found = named_classes(architectures, Architecture)
    return dict(sorted(found.items(), key=lambda item: (item[1].table_column, item[0])))
