"""Ctrl-C and SIGTERM: heard once, as a KeyboardInterrupt that cleans up; further ones are ignored meanwhile.

A KeyboardInterrupt can be lost on its way, in a destructor, in a library's `except`, or turned into another exception.
So whatever ends a process that has heard a signal counts as its end, and there is one after GRACE_SECONDS in any case.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

GRACE_SECONDS = 5.0

_SENTENCES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopping:
    """Whether this process was asked to end, by which signal, and how it then ends."""

    def __init__(self) -> None:
        self.signal: int = 0
        self._process = os.getpid()

    def listen(self) -> None:
        """From here on the signals raise KeyboardInterrupt; one that was ignored before, as under nohup, stays so."""
        for number in _SENTENCES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        sys.unraisablehook = self._unraisable

    def ignore(self) -> None:
        """From here on nothing is left to stop."""
        for number in _SENTENCES:
            signal.signal(number, signal.SIG_IGN)

    @property
    def exit_code(self) -> int:
        """As a shell has it: 128 and the number of the signal."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def sentence(self) -> str:
        """The one line on stderr, where nobody knows more."""
        word = _SENTENCES[signal.Signals(self.signal or signal.SIGINT)]
        return f"{word}: every file written before is whole, and the same command goes on from what is stored"

    def end(self) -> NoReturn:
        """End at once, without the interpreter's own farewell, which waits for workers and may complain."""
        if "multiprocessing" in sys.modules:
            for child in sys.modules["multiprocessing"].active_children():
                child.kill()
        os._exit(self.exit_code)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked a moment ago, and is its parent's to end
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        self.signal = number
        self.ignore()
        _thread.start_new_thread(self._end_after, (GRACE_SECONDS,))  # threading takes locks, which this frame may hold
        raise KeyboardInterrupt

    def _end_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.write(2, f"bench: {self.sentence}\n".encode())
        self.end()

    def _unraisable(self, unraisable: Any) -> None:
        if not self.signal:
            sys.__unraisablehook__(unraisable)
