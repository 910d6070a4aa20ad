"""The virtual card as a device that carries out trials, in a process that has it preloaded.

One process imports PyTorch once and lives between trials, whatever their cards; each trial runs in a fork of it, so
that none finds anything of an earlier one: no fragments, no remembered plans, no tensors in kept exceptions.
"""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import ClassVar

from bench.memory.allocator.caching import Act
from bench.memory.gpus import Card
from bench.memory.measuring.cuda import TIMEOUT_SECONDS, Measurement, Trial
from bench.memory.measuring.isolated import IsolatedError
from bench.memory.trace import Workspace
from bench.virtual.figures import Figures, figures
from bench.virtual.library import environment

WORKER = "bench.virtual.worker"
START_SECONDS = 300.0  # to import PyTorch from a slow disk


@dataclass(frozen=True)
class VirtualMeasurement(Measurement):
    """What one trial saw on the virtual card.

    `values_read` counts the copies to the host in the last step that are zeros, as nobody knows them. `selections`
    counts its kernels that select elements by value (nonzero, unique, x[mask]): where nobody told how many, they select
    none, and what follows is empty. `strays` counts all copies to the host that were not told of: where the trial has
    `reads` and this is 0, the step went as the recording did. `lower_bounds` are
    the functions whose buffers' sizes are not known and were taken as 0, `upper_bounds` those that were taken as a
    bound. `events`, if asked for, are (key, bytes) or (key, FREE), where keys count the allocations from 0; `setup` of
    them come before the first step; `failures` are allocations that failed: how many events came before, and bytes;
    `emptyings` are how many came before each time that the step emptied the cache. `host_bytes` is the most memory of
    the process that ran it.
    """

    values_read: int
    selections: int
    lower_bounds: tuple[str, ...]
    upper_bounds: tuple[str, ...] = ()
    events: tuple[tuple[int, int | Act], ...] = field(default=(), repr=False)
    setup: int = 0
    failures: tuple[tuple[int, int], ...] = ()
    emptyings: tuple[int, ...] = ()
    host_bytes: int = 0
    strays: int = 0


@dataclass(frozen=True)
class Task:
    """A trial and the card that it runs on."""

    figures: Figures
    trial: Trial


@dataclass(frozen=True)
class Failed:
    """How a trial ended without a measurement."""

    reason: str


class VirtualDevice:
    """A card that is not there, with one bound or the other of cuFFT's work areas.

    Raises:
        NoVirtualCardError: there can be none on this system, or its properties are not known.
    """

    def __init__(
        self, card: Card, timeout_seconds: float = TIMEOUT_SECONDS, work_areas: Workspace = Workspace.HIGH
    ) -> None:
        self._figures = figures(card, work_areas)
        self._timeout_seconds = timeout_seconds
        self._environment = environment()

    def measure(self, trial: Trial) -> VirtualMeasurement:
        """Carry out one trial.

        Raises:
            IsolatedError: it ended without an answer.
        """
        try:
            answer = _Process.running(self._environment).ask(Task(self._figures, trial), self._timeout_seconds)
        except IsolatedError:
            _Process.end()
            raise
        if isinstance(answer, Failed):
            raise IsolatedError(answer.reason)
        return answer


class _Process:
    """The process that has the virtual card, and the way to it."""

    _running: ClassVar[_Process | None] = None

    @classmethod
    def running(cls, prepared: dict[str, str]) -> _Process:
        """The one process, started if there is none."""
        if cls._running and cls._running.owner != os.getpid():
            cls._running = None  # it is of the process that this one was forked from
        cls._running = cls._running or cls(prepared)
        return cls._running

    @classmethod
    def end(cls) -> None:
        """Stop it, if there is one."""
        if cls._running:
            cls._running.stop()
        cls._running = None

    def __init__(self, prepared: dict[str, str]) -> None:
        self.owner = os.getpid()
        near, far = socket.socketpair()
        with near, far:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(far.fileno()), str(os.getpid())],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | prepared | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._connection = Connection(near.detach())
        atexit.register(self.stop)
        self._receive(START_SECONDS)  # it is ready

    def ask(self, task: Task, timeout_seconds: float) -> VirtualMeasurement | Failed:
        """Send a task and wait for its answer.

        Raises:
            IsolatedError: the process died, or gave none in time.
        """
        try:
            content = pickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise IsolatedError(f"the step cannot be sent to another process: {error}") from error
        try:
            self._connection.send_bytes(content)
        except OSError:
            raise self._died() from None
        answer = self._receive(timeout_seconds)
        assert isinstance(answer, VirtualMeasurement | Failed)
        return answer

    def _receive(self, timeout_seconds: float) -> object:
        try:
            if not self._connection.poll(timeout_seconds):
                raise IsolatedError(f"gave no answer within {timeout_seconds:.0f} s and was stopped")
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None

    def _died(self) -> IsolatedError:
        return IsolatedError(f"its process died (exit code {self._popen.wait()})")

    def stop(self) -> None:
        """End it, whatever it is at, unless it is another process's."""
        if self.owner != os.getpid():
            return
        self._popen.kill()
        self._popen.wait()
        self._connection.close()
