"""Run a function in a process of its own, and tell apart how that can end.

A trial that ran out of memory leaves tensors in exception frames and a fragmented allocator behind; a crashed or hung
kernel takes its process along. So every trial on a GPU gets a fresh one.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from bench.memory.recording.places import sentence

Result = TypeVar("Result")


class IsolatedError(Exception):
    """The function did not return: it raised, its process died, or it took too long."""


def run_isolated(function: Callable[..., Result], *arguments: Any, timeout_seconds: float) -> Result:
    """`function(*arguments)` in a fresh process; function, arguments and result must pickle.

    Raises:
        IsolatedError: the function raised (with its type, message and line), its process died (with the signal or exit
            code), or it had not returned after `timeout_seconds` and was killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_seconds):
            raise IsolatedError(f"gave no answer within {timeout_seconds:.0f} s and was stopped")
        answer = receiver.recv()
    except (EOFError, OSError):  # the latter in the middle of an answer
        process.join()
        raise IsolatedError(f"its process died ({_how(process.exitcode)})") from None
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, _Raised):
        raise IsolatedError(answer.sentence)
    result: Result = answer
    return result


class _Raised:
    def __init__(self, error: Exception) -> None:
        self.sentence = sentence(error)


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's, which ends this process
    try:
        answer = function(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is goes to the parent, which raises it as IsolatedError
        answer = _Raised(error)
    sender.send(answer)
    sender.close()


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
