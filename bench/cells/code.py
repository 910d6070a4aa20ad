"""The code that decides a result: modules, those of ours that they import, and the data files that they name.

A module counts as its syntax tree: comments, layout, docstrings and what only type checkers read change nothing, and
every Python reads the same. Of a file that is in no package, as a user's may be, the files beside it count like a
package's. What is found while running, as architectures and operators are in their folders, is not
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
    "bench.cells.cell": "what it hands on stands in the settings",
    "bench.config": "what it reads stands in the settings",
    "bench.errors": "how faults are told",
    "bench.extras": "what is said of packages that are missing",
    "bench.files": "with what care files are read and written",
    "bench.names": "what names of files are made of",
    "bench.execution.progress": "how it is told how far a measurement is",
    "bench.plugins": "which module has an architecture or an operator: the module of the one that is used counts",
    "bench.records": "how results are written down, which has a version of its own",
    "bench.records.store": "how results are kept",
    "bench.execution.workers": "in which process a result is made",
}
"""Modules that decide how results are told and kept, not what they are; and why."""


class _Module(NamedTuple):
    """A hash of its content, and the names of those modules that it imports of bench and of its own package."""

    digest: str
    imports: list[str]


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
                raise UsageError(f"{name} is in no file, and records are named by the code they are of: put it in one")
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name not in found and name not in LEFT_OUT and self._module(name):
                found.add(name)
                todo += self._modules[name].imports
        return found

    def _module(self, name: str) -> _Module | None:
        """The module, read at most once; None if it is in no file.

        Raises:
            UsageError: the file cannot be read, or is not Python.
        """
        if name not in self._modules:
            path = self._file(name)
            if path is None:
                return None
            try:
                self._modules[name] = self._read(name, Path(path))
            except (OSError, SyntaxError, ValueError) as error:
                raise UsageError(f"cannot read the code of {name} in {path}: {error}") from error
        return self._modules[name]

    def _read(self, name: str, path: Path) -> _Module:
        content = path.read_bytes()
        if path.suffix != ".py":  # compiled
            return _Module(hashlib.sha256(content).hexdigest(), [])
        tree = _Tree(ast.parse(content))
        digest = hashlib.sha256(tree.text.encode())
        named = tree.strings & _listed(str(path.parent))  # a module reads the files that it names
        for file in sorted(named):
            if not file.endswith(".py") and (path.parent / file).is_file():
                digest.update(file.encode() + (path.parent / file).read_bytes())
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = [(_absolute(module, package), taken) for module, taken in tree.imports]
        ours = {"bench", name.partition(".")[0], *_neighbours(path)}
        return _Module(
            digest.hexdigest(),
            [self._imported(module, taken) for module, taken in imports if module.partition(".")[0] in ours],
        )

    def _imported(self, module: str, taken: str | None) -> str:
        """The module that `taken` is if it is one, else the one that it is taken from."""
        inner = f"{module}.{taken}"
        return inner if taken and self._file(inner) else module

    def _file(self, name: str) -> str | None:
        """Where a module lies, whether it is imported or not."""
        top, *inner = name.split(".")
        loaded = sys.modules.get(top)
        folders = [self._folders[top]] if top in self._folders else getattr(loaded, "__path__", ())
        for folder in folders:
            place = os.path.join(folder, *inner)
            for path in (os.path.join(place, "__init__.py"), f"{place}.py"):
                if os.path.basename(path) in _listed(os.path.dirname(path)):
                    return path
        file: str | None = getattr(sys.modules.get(name), "__file__", None)
        return file if top not in self._folders else None


HERE = Code()
"""The code that is running."""


def _neighbours(path: Path) -> set[str]:
    """Modules beside a file of the user's that is in no package, which it imports as a script does."""
    names = _listed(str(path.parent))
    if "__init__.py" in names or {"site-packages", "dist-packages"} & set(path.parts):
        return set()
    return {name.removesuffix(".py") for name in names if name.endswith(".py")}


@functools.cache
def _listed(folder: str) -> frozenset[str]:
    """The names in a folder, letter by letter, which a file system that ignores case would not tell apart."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


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
            if value is None or value == [] or name == "ctx":
                continue
            add(name)
            if isinstance(value, list):
                add("[")
                for item in _running(value) if name in _BLOCKS else value:
                    self._value(item)
                add("]")
            else:
                self._value(value)
        return add(")")

    def _value(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self._node(value)
        else:
            self._words.append("-" if value is None else ascii(value))


_BLOCKS = ("body", "orelse", "finalbody")


def _running(block: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that do something: no texts on their own, as docstrings are, and nothing for type checkers."""
    for node in block:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            continue
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _running(node.orelse)
        else:
            yield node


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))
