"""The user's environment: settings meant for other programs, which must not change or stop a command."""

from __future__ import annotations

import logging
import os
import re
import warnings

from bench import streams
from bench.errors import UsageError

_THREADS = re.compile(r"\s*[1-9]\d{0,6}(\s*,\s*[1-9]\d{0,6})*\s*")


def prepare() -> None:
    """Make sure of what libraries look at when they are imported; workers inherit it.

    Raises:
        UsageError: the working folder was deleted, without which torch's libraries end the process.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(f"the working folder cannot be used ({error.strerror}): change into another one") from error
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and not _THREADS.fullmatch(threads):  # of which OpenMP would complain in its own words
        del os.environ["OMP_NUM_THREADS"]
        streams.say(f"OMP_NUM_THREADS={threads!r} in the environment is no number of threads and is ignored")
    os.environ["MPLBACKEND"] = "agg"  # pictures are files: a notebook's backend, say, may not even be installed
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without a home it tells of its temporary folder
    # Warnings are said, whatever PYTHONWARNINGS wants; libraries warn at every import.
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    warnings.showwarning = lambda message, *_: streams.say(message)
