"""The user's environment: settings meant for other programs, which must not change or stop a command."""

from __future__ import annotations

import logging
import os
import warnings

from bench import streams
from bench.errors import UsageError


def prepare() -> None:
    """Make sure of what libraries look at when they are imported; workers inherit it.

    Raises:
        UsageError: the working folder was deleted, without which torch's libraries end the process.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(f"the working folder cannot be used ({error.strerror}): change into another one") from error
    os.environ["MPLBACKEND"] = "agg"  # pictures are files: a notebook's backend, say, may not even be installed
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without a home it tells of its temporary folder
    # Warnings are said, whatever PYTHONWARNINGS wants; libraries warn at every import.
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    warnings.showwarning = lambda message, *_: streams.say(message)
