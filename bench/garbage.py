"""Python's garbage collector, kept out of commands that read many records and are over in seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the search for reference cycles, which walks all records again and again and finds none in them.

    Also a decorator. Processes that are forked meanwhile do without it as well.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
