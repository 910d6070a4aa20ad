"""Which tests run which lines: coverage.py, with each test as a context."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

from tools.mutation.mutants import Mutant
from tools.mutation.runner import Task, in_child


class TestsFailError(Exception):
    """Tests fail without any change."""

    __test__ = False


@dataclass(frozen=True)
class Reach:
    """Tests and the lines they run.

    Attributes:
        seconds: Of processor time, of every test that passed, by its id.
        of_line: Tests by file and line. A line that runs once for several tests, in a fixture, counts for all of them.
        of_file: Tests that run any line of a file: they and their neighbours can notice a change of what imports run.
        before: Lines that run before the first test, as decorators do when modules are imported.
    """

    seconds: dict[str, float]
    of_line: dict[tuple[str, int], set[str]]
    of_file: dict[str, set[str]]
    before: set[tuple[str, int]]

    def task(self, mutant: Mutant, folders: Sequence[str], most_seconds: float) -> Task:
        """A change with the tests of some folders that run it, as many as `most_seconds` allows.

        They stand file by file: first the file named after the changed one, then the quick ones.
        """
        first, last = mutant.lines
        lines = [(mutant.file, line) for line in range(first, last + 1)]
        tests = set().union(*(self.of_line.get(line, ()) for line in lines))
        is_imported = not mutant.is_local or not self.before.isdisjoint(lines)
        if is_imported:
            modules = {_module(test) for test in self.of_file.get(mutant.file, ())}
            tests |= {test for test in self.seconds if _module(test) in modules}
        tests = {test for test in tests if test.startswith(tuple(folders))}
        of_module: dict[str, float] = defaultdict(float)
        for test in tests:
            of_module[_module(test)] += self.seconds[test]

        def order(test: str) -> tuple[bool, float, str, float]:
            module = _module(test)
            return Path(mutant.file).stem not in module, of_module[module], module, self.seconds[test]

        chosen: list[str] = []
        seconds = 0.0
        for test in sorted(tests, key=order):
            if not chosen or seconds + self.seconds[test] <= most_seconds:
                chosen.append(test)
                seconds += self.seconds[test]
        return Task(mutant, chosen, seconds, is_in_place=not is_imported)


def reach(tree: Path, folders: Sequence[str], packages: Sequence[str]) -> Reach:
    """Run the tests of some folders in a tree, and note which lines of some packages each of them runs.

    Raises:
        TestsFailError: some fail.
    """
    tree = tree.resolve()
    data_file, notes, log = (tree.with_name(f"{tree.name}.{name}") for name in ("coverage", "tests", "log"))

    def measure() -> int:
        include = [f"{tree / package}/*" for package in packages]
        measured = coverage.Coverage(str(data_file), include=include, config_file=False)
        watch = _Watch(measured)
        measured.start()
        code = int(pytest.main(["--tb=short", "-p", "no:cacheprovider", *folders], plugins=[watch]))
        measured.stop()
        measured.save()
        notes.write_text(json.dumps({"seconds": watch.seconds, "fixtures": watch.fixtures}))
        return code

    if in_child(tree, measure, log):
        raise TestsFailError(f"tests fail without a change:\n{log.read_text()}")
    return read(tree, data_file, notes)


def read(tree: Path, data_file: Path, notes: Path) -> Reach:
    """What the files of a run say."""
    noted = json.loads(notes.read_text())
    of_line: dict[tuple[str, int], set[str]] = {}
    of_file: dict[str, set[str]] = defaultdict(set)
    before: set[tuple[str, int]] = set()
    data = coverage.CoverageData(str(data_file))
    data.read()
    for path in data.measured_files():
        file = Path(path).relative_to(tree).as_posix()
        for line, contexts in data.contexts_by_lineno(path).items():
            tests = {test for name in contexts for test in noted["fixtures"].get(name, [name])}
            tests &= noted["seconds"].keys()
            of_line[file, line] = tests
            of_file[file] |= tests
            if "" in contexts:
                before.add((file, line))
    return Reach(noted["seconds"], of_line, of_file, before)


def _module(test: str) -> str:
    return test.partition("::")[0]


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended: other programs do not change it."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _Watch:
    """A pytest plugin that tells coverage which test runs, or which fixture of several tests."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.seconds: dict[str, float] = {}
        self.fixtures: dict[str, list[str]] = defaultdict(list)
        self._measured = measured
        self._test = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for name in getattr(item, "fixturenames", ()):
                self.fixtures[f"fixture {name}"].append(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.seconds[report.nodeid] = 0.0  # known once it has ended

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._test = item.nodeid
        self._measured.switch_context(self._test)
        begin = _processor_seconds()
        result = yield
        if item.nodeid in self.seconds:
            self.seconds[item.nodeid] = _processor_seconds() - begin
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if fixturedef.scope != "function":
            self._measured.switch_context(f"fixture {fixturedef.argname}")
        result = yield
        self._measured.switch_context(self._test)
        return result
