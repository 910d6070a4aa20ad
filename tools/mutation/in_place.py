"""Try a change in a process that has collected the tests: the changed code takes the place of that of the function.

A change inside a function needs no import of what is imported already. A process collects the tests once and forks
for every change; the fork runs on as the session would, with the tests that can notice.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from multiprocessing.connection import Connection
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

CANNOT = 90
"""The exit code of a fork that cannot make the change in place."""


class Trial(NamedTuple):
    """A file, its changed source, the changed line; the tests, in order, and how long they may take (`end_after`)."""

    path: str
    source: str
    line: int
    tests: Sequence[str]
    most_seconds: float


class Selection:
    """A pytest plugin that keeps some tests, in an order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._place = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop the others, and sort."""
        items[:] = sorted((i for i in items if i.nodeid in self._place), key=lambda i: self._place[i.nodeid])


class Server:
    """A pytest plugin that, in place of the tests, forks for every trial it receives.

    It sends the exit code of the fork, and before it the name of a test that failed there.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """In the process itself: serve, then run no test. In a fork: run its tests."""
        gc.unfreeze()  # what is frozen, by the tests' own doing, is not among the objects
        functions = [found for found in gc.get_objects() if type(found) is FunctionType]
        gc.freeze()
        chosen: list[pytest.Item] = []
        while trial := self._next():
            child = os.fork()
            if child == 0:
                os.setsid()
                end_after(trial.most_seconds)
                if not put(functions, trial.path, trial.source, trial.line):
                    os._exit(CANNOT)
                chosen = list(session.items)
                Selection(trial.tests).pytest_collection_modifyitems(chosen)
                break
            self._connection.send(wait(child))
        session.items[:] = chosen
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a fork: tell which test noticed."""
        if report.failed:
            self._connection.send(report.nodeid)

    def _next(self) -> Trial | None:
        """None when whoever sends them has ended."""
        try:
            return Trial(*self._connection.recv())
        except EOFError:
            return None


def end_after(seconds: float) -> None:
    """End this process after so many seconds of its processor time, or ten times as long by the clock."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)


ENDED = (-signal.SIGPROF, -signal.SIGALRM)
"""How a process ends that `end_after` ended."""


def wait(child: int) -> int:
    """The exit code of a process that leads a group, or minus the signal that ended it; ends what it started."""
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def put(functions: Iterable[FunctionType], path: str, source: str, line: int) -> bool:
    """Give every function of a file that holds the changed line its changed code; whether each could have it.

    A file that is not imported yet needs nothing: it is changed on disk.
    """
    changed: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
    for code in _codes(compile(source, path, "exec")):
        changed[code.co_name, code.co_firstlineno].append(code)
    for function in functions:
        old = function.__code__
        if not _is_at(old, path) or not old.co_firstlineno <= line <= _last_line(old):
            continue
        new = changed[old.co_name, old.co_firstlineno]
        if len(new) != 1 or new[0].co_freevars != old.co_freevars:
            return False
        function.__code__ = new[0]
    return True


def _is_at(code: CodeType, path: str) -> bool:
    name = code.co_filename
    return name == path or (os.path.basename(name) == os.path.basename(path) and os.path.realpath(name) == path)


def _codes(code: CodeType) -> list[CodeType]:
    """A code object and all inside it."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [code, *(found for one in inner for found in _codes(one))]


def _last_line(code: CodeType) -> int:
    return max(line or 0 for one in _codes(code) for _, _, line in one.co_lines())
