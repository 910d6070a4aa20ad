"""Python's garbage collector, kept out of what makes many objects without cycles and is over in seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the search for reference cycles, which walks all records or events again and again and finds none.

    Also a decorator. Processes that are forked meanwhile do without it as well.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
