"""The ways in which a process of its own can end."""

import os
import signal
import time

import pytest

from bench.memory.measuring.isolated import IsolatedError, run_isolated


def add(one, other):
    return one + other


def fail():
    raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")


def leave():
    os._exit(3)


def kill_self():
    os.kill(os.getpid(), signal.SIGSEGV)


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
        (hang, 1, "gave no answer within 1 s and was stopped"),
    ],
)
def test_no_result(function, timeout_seconds, message):
    with pytest.raises(IsolatedError, match=message):
        run_isolated(function, timeout_seconds=timeout_seconds)
