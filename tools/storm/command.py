"""The command `bench`, started quickly: forked from this process, which has imported everything, or as a new process.

Each has a session of its own, so that what it leaves behind can be found, and its output goes to files.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 * 2**30
"""What a command may allocate: a suite that asks for more fails in it, and not the machine."""

STARTED_SECONDS = 0.1
"""Of processor time, after which a new interpreter runs our code: before, it cannot be asked to end well."""

_NEVER_IMPORTED = ("bench.pytest_plugin",)


@dataclass(frozen=True)
class End:
    """How a command ended: -9 for signal 9, None where it had to be stopped after `seconds`."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float


def preload() -> None:
    """Import all of bench, and what it imports when it is first used, for the commands forked from here."""
    import rich.progress  # noqa: F401
    import torch

    import bench
    from bench.memory import record

    def make_step(batch: int, device: torch.device) -> Callable[[], None]:
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.GroupNorm(2, 4)).to(device)
        optimizer = torch.optim.Adam(network.parameters())

        def step() -> None:
            optimizer.zero_grad()
            network(torch.rand(batch, 1, 8, 8, device=device)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        return step

    torch.set_num_threads(1)
    record(make_step)
    for module in pkgutil.walk_packages(bench.__path__, "bench."):
        if module.name not in _NEVER_IMPORTED and not module.name.endswith("__main__"):
            with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
                importlib.import_module(module.name)


class Running:
    """A command that was started."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        logs: Path,
        *,
        is_new_process: bool = False,
        stdout: Path | None = None,
    ) -> None:
        """Start `bench ARGUMENTS` in a folder.

        Args:
            arguments: of the command line.
            folder: it works in.
            environment: all of it.
            logs: the folder for what it prints.
            is_new_process: not forked, but started as a user does.
            stdout: where it prints to, if not to a file of its own.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self.begun = time.monotonic()
        self._stdout, self._stderr = logs / f"{time.monotonic_ns()}.stdout", logs / f"{time.monotonic_ns()}.stderr"
        with open(stdout or self._stdout, "wb") as out, open(self._stderr, "wb") as err:
            self._process: subprocess.Popen[bytes] | multiprocessing.process.BaseProcess
            if is_new_process:
                command = [str(Path(sys.executable).parent / "bench"), *arguments]
                self._process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            else:
                self._process = multiprocessing.get_context("fork").Process(
                    target=_be_bench, args=(arguments, folder, environment, out.fileno(), err.fileno())
                )
                self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None if it does not end within so many seconds."""
        until = time.monotonic() + seconds
        while (code := self._code()) is None and time.monotonic() < until:
            time.sleep(0.005)
        return code

    def _code(self) -> int | None:
        """The exit code, or None as long as it runs; `join` would wait for what it leaves behind, too."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def end(self, seconds: float) -> End:
        """Wait for its end, and after so many seconds kill it."""
        code = self.wait(seconds)
        taken = time.monotonic() - self.begun
        if code is None:
            self.kill()
        return End(code, _text(self._stdout), _text(self._stderr), taken)

    def kill(self) -> None:
        """Kill it, and whatever else is in its session."""
        others = self.others()
        self.signal(signal.SIGKILL)
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(10)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs: its number may be another process's once its end was seen."""
        if self._code() is None:
            os.kill(self.pid, number)

    def others(self) -> list[int]:
        """What runs in its session besides itself."""
        return [pid for pid, _ in _session(self.pid) if pid != self.pid]

    def processor_seconds(self) -> float:
        """Processor time of its session so far."""
        return sum(seconds for _, seconds in _session(self.pid))

    def wait_until_started(self) -> None:
        """Wait until a new interpreter has begun to run our code, or is gone."""
        while self.wait(0.01) is None and self.processor_seconds() < STARTED_SECONDS:
            pass

    def orphans(self, seconds: float = 3.0) -> list[int]:
        """What its session still runs so many seconds after its end."""
        until = time.monotonic() + seconds
        while (left := self.others()) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def _session(leader: int) -> Iterator[tuple[int, float]]:
    """The processes of a session that still run, and their processor time."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z" and int(fields[3]) == leader:
                    yield int(folder.name), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="backslashreplace") if path.exists() else ""


def _be_bench(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int) -> None:
    """In a forked process: become `bench ARGUMENTS`."""
    from bench.cli import main

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = _stream(1, "strict"), _stream(2, "backslashreplace")
    sys.argv = ["bench", *arguments]
    tempfile.tempdir = None  # read from the environment again
    warnings.resetwarnings()  # and as Python has them
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _stream(descriptor: int, errors: str) -> Any:
    """What Python has as sys.stdout and sys.stderr."""
    file = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - as long as the process
    return io.TextIOWrapper(file, "utf-8", errors, line_buffering=errors != "strict")
