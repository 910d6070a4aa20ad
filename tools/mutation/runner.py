"""Run tests on a changed file, each time in a copy of the repository and in a fresh process.

A process that has imported torch and pytest, and nothing of ours, forks a child for every change: the child imports
the changed file as any run would, without the seconds that torch takes. A change inside a function needs even that
seldom (in_place.py).
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from tools.mutation.in_place import CANNOT, ENDED, Selection, Server, Trial, end_after, wait
from tools.mutation.mutants import Mutant

WARM = (
    "torch._dynamo",
    "torch.fx.experimental.proxy_tensor",
    "scipy.sparse",
    "skimage.transform",
    "typer",
    "pytest_benchmark.plugin",
)
MOST_BYTES = 24 << 30  # of addresses: a changed size must not take the machine's memory


class Outcome(str, Enum):
    """What became of a change."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMED_OUT = "timed out"
    NOT_COVERED = "not covered"


class Task(NamedTuple):
    """A change, the tests that can notice it, in order, and the seconds that they take without it.

    `is_in_place`: whether it only matters when a function is called, and none calls it before the tests begin.
    """

    mutant: Mutant
    tests: list[str]
    seconds: float
    is_in_place: bool


def copy_repository(root: Path, to: Path) -> None:
    """Copy what git tracks, or would; links stay links."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name and os.path.lexists(root / name):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name, follow_symlinks=False)


def warm_up() -> None:
    """Import what takes long; make tests of properties repeatable, and their failures quick."""
    for name in WARM:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")


def in_child(tree: Path, function: Callable[[], int], log: Path, most_seconds: float = 0) -> int:
    """What a function returns in a forked process that works in a tree; minus the signal that ended it.

    It has so many seconds (`end_after`), and compiles no file to disk; 0: neither. It prints to `log`.
    """
    return wait(start_child(tree, function, log, most_seconds))


def start_child(tree: Path, function: Callable[[], int], log: Path, most_seconds: float = 0) -> int:
    """The same, not waited for: the number of the process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            gc.freeze()  # what is imported already: pytest collects garbage at its end, and torch alone takes a second
            os.setsid()
            end_after(most_seconds)
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
            os.chdir(tree)
            sys.dont_write_bytecode = most_seconds > 0
            os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1" if most_seconds else ""}
            for name in [name for name in sys.modules if name.partition(".")[0] in ("bench", "tools")]:
                del sys.modules[name]  # a forked process has those of this tool
            sys.path.insert(0, str(tree))
            code = function()
        except BaseException:  # noqa: BLE001 - whatever it is ends this fork, and is seen in its log
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def run(tasks: Sequence[Task], tree: Path, jobs: int) -> Generator[tuple[Mutant, Outcome]]:
    """What becomes of each change, in their order."""
    modules = sorted({_module(test) for task in tasks if task.is_in_place for test in task.tests})
    # Of executors, because the processes of a multiprocessing.Pool may have no children of that kind, as tests have.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, fork, initializer=_own_copy, initargs=(tree, modules)) as pool:
        tried = next((task for task in tasks if task.is_in_place and task.tests), None)
        if tried and (failed := pool.submit(_unchanged, tried).result()):
            raise RuntimeError(f"tests that pass fail in a fork without a change: {failed}")
        yield from pool.map(_outcome, tasks)


_tree: Path
"""The copy that a process of the pool may change."""
_server: Connection
"""To the process that has collected the tests in it."""
_noticed: defaultdict[str, Counter[str]] = defaultdict(Counter)
"""How many changes of a file each test has noticed here."""


def _own_copy(tree: Path, modules: Sequence[str]) -> None:
    global _tree, _server
    _tree = tree.with_name(f"{tree.name}-{os.getpid()}")
    shutil.copytree(tree, _tree, symlinks=True)
    _server, other = multiprocessing.Pipe()

    def serve() -> int:
        _server.close()
        return int(pytest.main([*_arguments(), *modules], plugins=[Server(other)]))

    start_child(_tree, serve, Path(os.devnull))
    other.close()


def _unchanged(task: Task) -> str:
    """What fails if tests are tried in place without a change: "", or nothing that this tool says is true."""
    path = _tree / task.mutant.file
    status = _in_place(task, path, path.read_text())
    failed = _noticed.pop(task.mutant.file, Counter())
    return ", ".join(failed) or (f"exit code {status}" if status else "")


def _arguments() -> list[str]:
    return ["-x", "--tb=no", "-p", "no:cacheprovider", f"--basetemp={_tree}-temporary"]


def _outcome(task: Task) -> tuple[Mutant, Outcome]:
    mutant, tests, seconds, is_in_place = task
    if not tests:
        return mutant, Outcome.NOT_COVERED
    path = _tree / mutant.file
    original, before = path.read_bytes(), path.stat()
    path.write_text(mutant.source)
    os.utime(path, (before.st_atime, before.st_mtime + 1000))  # so that the compiled original is not taken for it
    status = _in_place(task, path, mutant.source) if is_in_place else CANNOT
    if status == CANNOT:
        arguments = [*_arguments(), *sorted({_module(test) for test in tests})]
        status = in_child(
            _tree, lambda: pytest.main(arguments, plugins=[Selection(tests)]), Path(os.devnull), 3 * seconds + 15
        )
    path.write_bytes(original)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    if status in ENDED:
        return mutant, Outcome.TIMED_OUT
    return mutant, Outcome.KILLED if status else Outcome.SURVIVED


def _in_place(task: Task, path: Path, source: str) -> int:
    """The exit code of the tests, or CANNOT; those that have noticed other changes of the file go first."""
    noticed = _noticed[task.mutant.file]
    tests = sorted(task.tests, key=lambda test: -noticed[test])
    _server.send(tuple(Trial(str(path), source, task.mutant.line, tests, 3 * task.seconds + 5)))
    while isinstance(answer := _server.recv(), str):
        noticed[answer] += 1
    assert isinstance(answer, int)
    return answer


def _module(test: str) -> str:
    return test.partition("::")[0]
