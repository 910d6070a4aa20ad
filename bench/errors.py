"""Errors that a user can act on. Each carries its exit code; bench.cli prints them, in one place.

Exit codes: 0 fine, 1 regression found and nothing else, 2 usage, configuration or a file that cannot be used, 3 some
cells failed, 4 not comparable, 70 a fault of bench itself, 74 stdout cannot be written; 128 and the signal's number
where one ended it: 130 interrupted (Ctrl-C), 143 terminated, 141 whoever read stdout is gone.
"""

FAULT = 70  # EX_SOFTWARE of sysexits.h


class BenchError(Exception):
    """One clear sentence for the user: what was got, what was expected, where, and what to do."""

    exit_code = 2


class UsageError(BenchError):
    """The command, the configuration or a file given by the user cannot be used."""

    exit_code = 2


class StorageError(UsageError):
    """A file of bench's own cannot be used or written: no failure of a cell, so that it ends the run."""


class RegressionError(BenchError):
    """Cells are worse than before, or better, so that what they are held against must be renewed."""

    exit_code = 1


class CellsFailedError(BenchError):
    """The run came to its end, but some of its cells have a record of failure."""

    exit_code = 3


class NotComparableError(BenchError):
    """There is nothing to compare or to report on, or less than a baseline asks for."""

    exit_code = 4


class OutputError(BenchError):
    """What belongs on stdout cannot be written there: a full disk, say."""

    exit_code = 74  # EX_IOERR of sysexits.h


class ReaderGoneError(OutputError):
    """Nobody reads stdout any more, as when `head` has its lines: a reason to end, and none to complain."""

    exit_code = 141  # what a shell makes of SIGPIPE


class InterruptedRunError(BenchError):
    """The user stopped the run."""

    exit_code = 130  # what a shell makes of SIGINT
