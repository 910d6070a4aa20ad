"""Worker processes for cells: side by side, one per core or one per GPU.

A worker that dies, as when the system kills it for want of memory, takes along the call it was at and nothing else:
another worker takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")

_parent: Connection | None = None
"""In a worker: the way to whoever reads its answers."""


@dataclass(frozen=True)
class Died:
    """What is left of a call whose process died: with which exit code, -9 for signal 9."""

    exit_code: int | None

    def __str__(self) -> str:
        if self.exit_code == -signal.SIGKILL:
            return f"its process was killed (signal {-self.exit_code}), perhaps because memory ran out"
        if self.exit_code is not None and self.exit_code < 0:
            return f"its process died (signal {-self.exit_code}, {signal.Signals(-self.exit_code).name})"
        return f"its process died (exit code {self.exit_code})"


@dataclass(frozen=True)
class _Message:
    """Something that a call tells before it returns."""

    content: Any


class WorkerError(Exception):
    """What a call raised, where that itself cannot leave its process: its kind and message."""


class _TracebackError(Exception):
    """The cause of an exception that came out of a worker: where it was raised there, as text."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


@dataclass(frozen=True)
class _Raised:
    """What a call raised, and where."""

    error: Exception
    traceback: str


def message(content: Any) -> None:
    """Send a message out of a worker, to the listener of `side_by_side`."""
    assert _parent is not None
    _parent.send(_Message(content))


def side_by_side(
    function: Callable[..., Result],
    calls: Mapping[Key, Sequence[Any]],
    processes: int,
    *,
    gpus: Sequence[str] = (),
    listener: Callable[[Key, Any], None] = lambda key, content: None,
) -> Iterator[tuple[Key, Result | Died]]:
    """`function(*arguments)` of every call, in worker processes; each result as soon as it is there.

    The workers share what is imported (where processes can fork) and die with this process. Left by an exception, as
    when the user interrupts, this stops them at once.

    Args:
        function: called in a worker; function, arguments and results must pickle.
        calls: the arguments, by a key that comes back with the result.
        processes: so many at a time.
        gpus: one per worker, as CUDA_VISIBLE_DEVICES names it, which is then all that the worker sees.
        listener: hears the messages of each call.

    Raises:
        Exception: whatever `function` raised, with its traceback there as the cause; a WorkerError where it does not
            pickle.
    """
    todo = deque(calls.items())
    slots: list[str | None] = list(gpus[:processes]) or [None] * processes
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[Key, _Worker]] = {}
    try:
        while todo or busy:
            while todo and (idle or slots):
                is_new = not idle
                worker = _Worker(slots.pop(0)) if is_new else idle.pop()
                if worker.takes((function, todo[0][1])) or is_new:
                    busy[worker.connection] = todo.popleft()[0], worker
                else:  # it died while it had nothing to do
                    worker.died()
                    slots.append(worker.gpu)
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                key, worker = busy[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):  # reset, where it had not read its call; or in the middle of an answer
                    answer = worker.died()
                if isinstance(answer, _Message):
                    listener(key, answer.content)
                    continue
                del busy[connection]
                if isinstance(answer, Died):
                    slots.append(worker.gpu)
                else:
                    idle.append(worker)
                if isinstance(answer, _Raised):
                    raise answer.error from _TracebackError(answer.traceback)
                yield key, answer
    finally:
        for worker in (*idle, *(worker for _, worker in busy.values())):
            worker.stop()


class _Worker:
    """One process that carries out one call after the other."""

    def __init__(self, gpu: str | None) -> None:
        forks = sys.platform == "linux" and gpu is None  # CUDA does not survive a fork
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self.gpu = gpu
        self.connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, os.getpid(), gpu))
        self._process.start()
        far_end.close()

    def takes(self, call: tuple[Callable[..., Any], Sequence[Any]]) -> bool:
        """Send it a call; whether it was there for it."""
        try:
            self.connection.send(call)
        except OSError:
            return False
        return True

    def died(self) -> Died:
        """How it ended, once it has."""
        self._process.join()
        self.connection.close()
        return Died(self._process.exitcode)

    def stop(self) -> None:
        """End it, whatever it is at, even where SIGTERM is ignored, as in a job of SLURM."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, parent: int, gpu: str | None) -> None:
    """A worker's life: answer calls."""
    global _parent
    _parent = connection
    begin(parent)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is goes to the parent, which raises it
            answer = _Raised(_portable(error), traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:  # there is no parent any more
            return


def _portable(error: Exception) -> Exception:
    """The exception, or what is said of it where it does not come back whole out of a pickle."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # noqa: BLE001 - a class of anybody's may raise anything here
        return WorkerError(f"{type(error).__name__}: {error}")
    return error


def begin(parent: int) -> None:
    """Leave interrupts to the parent, and do not outlive it: a killed parent cannot tell its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
