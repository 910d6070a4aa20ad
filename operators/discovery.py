"""How architectures, operators and image sets are found: a class with a `name`, in a file of its package."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar("Class", bound="type[Any]")


def named_classes(package: ModuleType, kind: Class) -> dict[str, Class]:
    """The subclasses of `kind` that have a `name` of their own, by it, in all modules of the package.

    Importing the modules is the work of the first call.
    """
    modules = [
        importlib.import_module(f"{package.__name__}.{file.name}") for file in pkgutil.iter_modules(package.__path__)
    ]
    return {each.name: each for module in modules for each in named_in(module, kind)}


def named_in(module: ModuleType, kind: Class) -> list[Class]:
    """Those of one module, defined there or imported there."""
    values: dict[Any, None] = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [each for each in values if issubclass(each, kind) and each.__dict__.get("name")]
