"""The code that decides a result: modules, those of ours that they import, and the data files that they name.

A module counts as its syntax tree: comments, layout, docstrings and what only type checkers read change nothing, and
every Python reads the same. What is found while running, as architectures and operators are in their folders, is not
followed: whoever uses such a module names it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.errors import UsageError
from bench.garbage import collector_paused

HASH_LENGTH = 8

LEFT_OUT = {
    "bench": "the version, and where the package lies",
    "bench.accuracy.checkpoint": "a training that goes on from a checkpoint gives the same bit for bit",
    "bench.cell": "what it hands on stands in the settings",
    "bench.config": "what it reads stands in the settings",
    "bench.data.sets": "which module has which images: the module of those that are used counts",
    "bench.errors": "how faults are told",
    "bench.progress": "how it is told how far a measurement is",
    "bench.records": "how results are written down, which has a version of its own",
    "bench.store": "how results are kept",
    "bench.workers": "in which process a result is made",
}
"""Modules that decide how results are told and kept, not what they are; and why."""


class _Module(NamedTuple):
    digest: str
    imports: list[tuple[str, str | None]]


class Code:
    """The modules of packages, each read once.

    Args:
        folders: where a package lies, if not where it is imported from.
    """

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self._folders = folders or {}
        self._modules: dict[str, _Module] = {}
        self._fingerprints: dict[frozenset[str], str] = {}

    def fingerprint(self, entries: Iterable[str]) -> str:
        """A hash of all code that the modules `entries` run.

        Raises:
            UsageError: one of them is in no file that can be read.
        """
        entries = frozenset(entries)
        if entries not in self._fingerprints:
            parts = sorted((name, self._modules[name].digest) for name in self.closure(entries))
            self._fingerprints[entries] = hashlib.sha256(repr(parts).encode()).hexdigest()[:HASH_LENGTH]
        return self._fingerprints[entries]

    @collector_paused()  # a tree of some ten thousand nodes is made at once, in half the time
    def closure(self, entries: Iterable[str]) -> set[str]:
        """The modules `entries` and what they import of bench and of their own packages, directly or not.

        Raises:
            UsageError: one of `entries` is in no file that can be read.
        """
        todo = list(entries)
        for name in todo:
            if self._file(name) is None:
                raise UsageError(
                    f"{name} is in no file, and records are named by the code they are of: put it in one"
                )
        ours = {"bench", *(name.partition(".")[0] for name in todo)}
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name in found or name in LEFT_OUT or self._file(name) is None:
                continue
            found.add(name)
            todo += [target for target in self._targets(name) if target.partition(".")[0] in ours]
        return found

    def _targets(self, name: str) -> Iterator[str]:
        """The modules that one imports. A package counts only where something that is no module is taken from it."""
        for module, taken in self._module(name).imports:
            inner = f"{module}.{taken}"
            yield inner if taken and self._file(inner) else module

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            path = self._file(name)
            assert path is not None
            self._modules[name] = _read(name, path)
        return self._modules[name]

    def _file(self, name: str) -> Path | None:
        top, *inner = name.split(".")
        loaded = sys.modules.get(top)
        folders = [self._folders[top]] if top in self._folders else getattr(loaded, "__path__", ())
        for folder in folders:
            place = Path(folder, *inner)
            for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
                if path.name in _listed(path.parent):
                    return path
        file = getattr(sys.modules.get(name), "__file__", None)
        return Path(file) if file and top not in self._folders else None


HERE = Code()
"""The code that is running."""


@functools.cache
def _listed(folder: Path) -> frozenset[str]:
    """The names in a folder, letter by letter, which a file system that ignores case would not tell apart."""
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _read(name: str, path: Path) -> _Module:
    """A module, and of the files in its folder those whose names are texts in it: it reads them.

    Raises:
        UsageError: the file cannot be read, or is not Python.
    """
    try:
        content = path.read_bytes()
        if path.suffix != ".py":  # compiled
            return _Module(hashlib.sha256(content).hexdigest(), [])
        tree = _Tree(ast.parse(content))
        digest = hashlib.sha256(tree.text.encode())
        for file in sorted(tree.strings & _listed(path.parent)):
            if not file.endswith(".py") and (path.parent / file).is_file():
                digest.update((path.parent / file).read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read the code of {name} in {path}: {error}") from error
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(digest.hexdigest(), [(_absolute(module, package), taken) for module, taken in tree.imports])


def _absolute(module: str, package: str) -> str:
    """The name of a module that is imported as `module`, with a dot for the package and one more for each above it."""
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    above = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join([*above, *filter(None, [module[dots:]])])


class _Tree:
    """A syntax tree as text: all that it says, and nothing in which versions of Python differ.

    Attributes:
        text: of the tree.
        imports: modules, with a dot for each package to go up, and the name that is taken from each, or None.
        strings: the tree's constants that are text.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.imports: list[tuple[str, str | None]] = []
        self.strings: set[str] = set()
        self._words: list[str] = []
        self._node(tree)
        self.text = " ".join(self._words)

    def _node(self, node: ast.AST) -> None:
        add = self._words.append
        if isinstance(node, ast.Name):
            return add(node.id)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.strings.add(node.value)
            return add(ascii(node.value))
        if isinstance(node, ast.Import):
            self.imports += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            self.imports += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
        elif isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in some
            node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
        add(f"({type(node).__name__}")
        for name in node._fields:  # a field that is new in some Python is empty where it is not used
            value = getattr(node, name)
            if value is None or value == [] or isinstance(value, ast.expr_context):
                continue
            add(name)
            if isinstance(value, ast.AST):
                self._node(value)
            elif isinstance(value, list):
                self._list(value)
            else:
                add(ascii(value))
        return add(")")

    def _list(self, values: list[object]) -> None:
        self._words.append("[")
        for value in _running(values):
            if isinstance(value, ast.AST):
                self._node(value)
            else:
                self._words.append(ascii(value))
        self._words.append("]")


def _running(nodes: Iterable[object]) -> Iterator[object]:
    """The nodes that do something: no texts on their own, as docstrings are, and nothing for type checkers alone."""
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            continue
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _running(node.orelse)
        else:
            yield node


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))
