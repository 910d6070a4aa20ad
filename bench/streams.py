"""stdout and stderr as a command of Unix treats them: whatever they are, no traceback comes of it.

A closed one is as /dev/null. Characters that the encoding lacks are written in others. Nobody hears an error of stderr;
one of stdout is an OutputError. What is said on stderr has no control characters: it may quote a damaged file.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any, NoReturn, TextIO

from bench.errors import OutputError, ReaderGoneError

_PLAIN = {"±": "+-", "×": "x", "→": "->", "–": "-", "—": "-", "−": "-", "·": ".", "≤": "<=", "≥": ">=", "σ": "s"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


def prepare() -> None:
    """Replace the process's own stdout and stderr; what stands in their place, as in a test, is left alone."""
    codecs.register_error("bench-plain", _plain)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: a file opened later would take its number, and get what belongs here
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))
    for name, stream_class in (("stdout", _Stdout), ("stderr", _Stderr)):
        stream: Any = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        if type(getattr(buffer, "raw", buffer)) is io.FileIO:  # of an unbuffered stream the buffer is the file
            stream = io.TextIOWrapper(
                io.BufferedWriter(stream_class(stream.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                line_buffering=stream.line_buffering or stream.write_through,
            )
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="bench-plain")


def say(sentence: object) -> None:
    """Say something on stderr, with escapes in place of line breaks, control characters and surrogates."""
    print(f"bench: {_CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(sentence))}", file=sys.stderr)


@contextlib.contextmanager
def in_silence() -> Iterator[None]:
    """What a program of the user's prints, logs and draws bars of is not shown: its author has seen it."""
    with redirect_stdout(_nowhere()), redirect_stderr(_nowhere()):
        yield


@cache
def _nowhere() -> TextIO:
    """Stays open: a logger that found it keeps it."""
    return open(os.devnull, "w", encoding="utf-8")


def flush() -> None:
    """Write what is left of stdout.

    Raises:
        OutputError: that cannot be done; it is given up.
    """
    try:
        sys.stdout.flush()
    except OutputError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def die_of_broken_pipe() -> NoReturn:
    """End as a program does that writes into a pipe which nobody reads."""
    if sys.platform != "win32":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(ReaderGoneError.exit_code)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Characters that look alike, or else "?", for one that an encoding lacks (an error handler of `codecs`)."""
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    decomposed = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _PLAIN.get(character) or decomposed or "?", error.start + 1


class _Stdout(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise ReaderGoneError("nobody reads stdout any more") from error
            raise OutputError(f"cannot write to stdout: {error.strerror}") from error


class _Stderr(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:  # there is nobody left to tell
            return memoryview(data).nbytes
