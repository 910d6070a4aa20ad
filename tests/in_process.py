"""bench run within the process of the tests, which keeps its own handlers of signals."""

import signal
import sys

import pytest

from bench.cli import main

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def exit_code_of(patch: pytest.MonkeyPatch, *arguments: object) -> int:
    """What `bench ARGUMENTS` ends with.

    The command ignores signals when it is done. Processes that the tests start later would inherit that, and a pool
    that ends its own by SIGTERM would wait for ever.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    patch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return end.value.code
