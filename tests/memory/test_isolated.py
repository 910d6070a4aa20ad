"""The ways in which a process of its own can end."""

import gc
import multiprocessing
import os
import signal
import struct
import time
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

from bench.memory.measuring import isolated
from bench.memory.measuring.isolated import IsolatedError, run_isolated


def add(one, other):
    return one + other


def fail():
    raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")


def leave():
    os._exit(3)


def kill_self():
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_self_in_an_answer():
    """After the length of a message and a part of it."""
    (sender,) = (each for each in gc.get_objects() if isinstance(each, Connection) and each.writable)
    os.write(sender.fileno(), struct.pack("!i", 1000) + b"part")
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def test_a_result():
    assert run_isolated(add, 2, 3, timeout_seconds=60) == 5


@pytest.mark.parametrize(
    ("function", "timeout_seconds", "message"),
    [
        (fail, 60, "RuntimeError: CUDA error: unspecified launch failure CUDA kernel errors might be reported later"),
        (leave, 60, r"its process died \(exit code 3\)"),
        (kill_self, 60, r"its process died \(signal SIGSEGV\)"),
        (kill_self_in_an_answer, 60, r"its process died \(signal SIGKILL\)"),
        (hang, 1, "gave no answer within 1 s and was stopped"),
    ],
)
def test_no_result(function, timeout_seconds, message):
    with pytest.raises(IsolatedError, match=message):
        run_isolated(function, timeout_seconds=timeout_seconds)


# The same without a process, so that each part can be looked at.


class Process:
    """Runs its target at once, or never; notes what is done to it."""

    def __init__(self, target, args, daemon):
        self.run, self.args, self.daemon = target, args, daemon
        self.done, self.exitcode, self.starts = [], None, True

    def start(self):
        self.exitcode = 3
        if self.starts:
            self.run(*self.args)
            self.exitcode = 0

    def is_alive(self):
        return "kill" not in self.done

    def kill(self):
        self.done.append("kill")

    def join(self):
        self.done.append("join")


class Context:
    """multiprocessing's, whose processes are the class above and whose pipes are noted."""

    def __init__(self, starts=True):
        self.processes, self.pipes, self.starts = [], [], starts

    def Process(self, **arguments):  # noqa: N802 (as multiprocessing has it)
        self.processes.append(Process(**arguments))
        self.processes[-1].starts = self.starts
        return self.processes[-1]

    def Pipe(self, duplex):  # noqa: N802
        self.pipes.append((*multiprocessing.Pipe(duplex), duplex))
        return self.pipes[-1][:2]


@pytest.fixture
def here(monkeypatch):
    """`here(starts)` is the context in which processes are made from now on; interrupts are as before in the end."""

    def made(starts=True):
        context = Context(starts)
        monkeypatch.setattr(isolated, "multiprocessing", SimpleNamespace(get_context=lambda method: context))
        return context

    before = signal.getsignal(signal.SIGINT)
    yield made
    signal.signal(signal.SIGINT, before)


def test_the_process_is_ended_joined_and_its_pipe_closed(here):
    context = here()
    assert run_isolated(add, 2, 3, timeout_seconds=1) == 5
    (process,), ((receiver, sender, duplex),) = context.processes, context.pipes
    assert (process.done, process.daemon) == (["kill", "join"], True)
    assert (receiver.closed, sender.closed, duplex) == (True, True, False)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # an interrupt is the parent's


def test_the_other_process_closes_its_end_when_it_has_answered(here):
    here()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    isolated._answer(sender, add, (2, 3))
    assert (receiver.recv(), sender.closed) == (5, True)


def test_an_error_arrives_as_one_sentence(here):
    here()
    with pytest.raises(IsolatedError) as told:
        run_isolated(fail, timeout_seconds=1)
    assert str(told.value).startswith(
        "RuntimeError: CUDA error: unspecified launch failure CUDA kernel errors might be reported later"
    )


def test_a_process_that_answers_nothing_is_joined_before_its_end_is_told(here):
    context = here(starts=False)
    with pytest.raises(IsolatedError, match=r"its process died \(exit code 3\)"):
        run_isolated(add, 2, 3, timeout_seconds=1)
    assert context.processes[0].done == ["join", "kill", "join"]
    assert context.pipes[0][0].closed


@pytest.mark.parametrize(
    ("exit_code", "says"),
    [(0, "exit code 0"), (1, "exit code 1"), (-9, "signal SIGKILL"), (-1, "signal SIGHUP"), (None, "exit code None")],
)
def test_how_a_process_ended(exit_code, says):
    assert isolated._how(exit_code) == says
