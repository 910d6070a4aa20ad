"""How far a measurement is: told from deep inside it to whoever listens, in this process or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Progress(NamedTuple):
    """So much of a measurement is done, and how it goes in a few words. The total may not be known."""

    done: int
    total: int | None
    status: str


Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(done: int, total: int | None, status: str) -> None:
    """Tell whoever listens, if anybody does."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(done, total, status))


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Within this context `listener` hears what is told."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
