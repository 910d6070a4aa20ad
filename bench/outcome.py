"""What comes of a command: its exit code, and the one place where errors are printed, each in one sentence."""

from __future__ import annotations

import os
import sys

from bench import environment, streams
from bench.errors import FAULT, BenchError, InterruptedRunError, OutputError, ReaderGoneError, UsageError
from bench.stopping import Stopping

_COMPLETION = {"--install-completion", "--show-completion"}
"""Options of typer's, which end the process."""


def outcome(arguments: list[str], stopping: Stopping) -> int:
    """Carry a command out and tell on stderr what went wrong: its exit code."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in ours
    given = [each for each in ours if each != "--debug"] + arguments[len(ours) :]
    try:
        streams.prepare()
        code = _carry_out(given)
        if stopping.signal or code == stopping.exit_code:  # which typer makes an exit code of its own of
            raise KeyboardInterrupt
    except BaseException as error:  # noqa: BLE001 - where every exception ends
        code = _told(error, stopping, debug)
    try:
        streams.flush()
    except OutputError as error:
        code = code or _told(error, stopping, debug)
    if code == ReaderGoneError.exit_code:
        streams.die_of_broken_pipe()
    return code


def _carry_out(arguments: list[str]) -> int:
    """The exit code of the verb, where it raises nothing."""
    environment.prepare()
    from bench.commands.verbs import BadCommandError, app

    try:
        return app(arguments, prog_name="bench", standalone_mode=False) or 0
    except BadCommandError as error:
        error.show()
        return UsageError.exit_code
    except SystemExit as end:  # as completion ends, which is no fault
        if "_BENCH_COMPLETE" not in os.environ and not _COMPLETION.intersection(arguments):
            raise
        return int(end.code or 0)


def _told(error: BaseException, stopping: Stopping, debug: bool) -> int:
    """Say in one sentence how a command ended: its exit code."""
    if stopping.signal or isinstance(error, KeyboardInterrupt):  # which may have become any exception on its way here
        streams.say(str(error) if isinstance(error, InterruptedRunError) else stopping.sentence)
        return stopping.exit_code
    if isinstance(error, ReaderGoneError):
        return error.exit_code
    if isinstance(error, BenchError):
        streams.say(str(error))
        return error.exit_code
    from bench import faults

    if debug:
        print(faults.traceback_of(error), end="", file=sys.stderr)
    if isinstance(error, OSError) and error.filename is not None:
        streams.say(f"cannot use {faults.shortened(str(error.filename))}: {error.strerror}")
        return UsageError.exit_code
    sentence, *report = faults.reported(error).split("\n", 1)
    streams.say(sentence)
    print(*report, sep="", end="", file=sys.stderr)
    return FAULT
