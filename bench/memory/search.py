"""The largest batch that fits: a search that also looks at what lies beyond the edge.

Any engine will do: `simulated` replays a trace, `cuda` runs the step. Near the edge the answers need not be monotone
(fragmentation can let B + 1 fit where B does not), so the neighbours beyond the edge are probed too, and the edge
moves on if one of them fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

NEIGHBOURS = 2  # batches beyond the edge that must not fit
LARGEST_BATCH = 2**20  # where a search without an edge stops
_SECANTS = 8


@dataclass(frozen=True)
class Probe:
    """One answer: does one training step at this batch fit, and what did it take at its peak?

    Where it does not fit, the peaks are what it came to, or 0 if it was not even tried.

    `retries` are allocations that first had to release the cache; `fallbacks` are convolutions that ran with another
    configuration than cuDNN's first choice because its workspace did not fit: the step fits, and is slower.
    """

    batch: int
    fits: bool
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    retries: int
    fallbacks: int = 0


class Engine(Protocol):
    """What answers "does this batch fit?"."""

    name: str

    def probe(self, batch: int) -> Probe:
        """Try one batch."""
        ...

    def guess(self) -> int:
        """A batch near the edge to start from; 0 if none can fit."""
        ...


@dataclass(frozen=True)
class Boundary:
    """The largest batch that fits (0: batch 1 does not), with the probes that show it.

    `monotone` is False if some batch below it does not fit, or one was found to fit beyond one that does not.
    """

    batch: int
    probes: tuple[Probe, ...]
    monotone: bool

    @property
    def at_edge(self) -> Probe | None:
        """The probe of the largest batch that fits."""
        return next((p for p in self.probes if p.batch == self.batch), None)


def largest_batch(engine: Engine, trusted: int | None = None) -> Boundary:
    """Find the largest batch B that fits, such that B + 1 ... B + NEIGHBOURS do not.

    Of a B that is `trusted`, the answer of another engine that looked beyond it, B + 1 alone is probed.
    """
    probes: dict[int, Probe] = {}

    def fits(batch: int) -> bool:
        if batch not in probes:
            probes[batch] = engine.probe(batch)
        return probes[batch].fits

    low = last_of(fits, min(max(engine.guess(), 1), LARGEST_BATCH))
    beyond = 1
    while beyond <= (1 if low == trusted else NEIGHBOURS) and low < LARGEST_BATCH:
        if fits(low + beyond):
            low, beyond = low + beyond, 0
        beyond += 1
    tried = tuple(probes[batch] for batch in sorted(probes))
    return Boundary(low, tried, monotone=all(p.fits == (p.batch <= low) for p in tried))


def last_of(fits: Callable[[int], bool], guess: int) -> int:
    """A batch that fits (or 0), such that the next one does not: looked for around `guess`, at most LARGEST_BATCH."""
    low, high = _bracket(fits, guess)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def where_room_ends(room_bytes: Callable[[int], int], start: int) -> int:
    """A batch near the edge: where the line through what two batches leave meets nothing left, again and again.

    Args:
        room_bytes: What a card has left beside the peak of a batch; below zero where it has less.
        start: The first batch looked at, at least 2.
    """
    below, batch = start // 2, start
    for _ in range(_SECANTS):
        left_bytes = room_bytes(batch)
        more_bytes, more_images = room_bytes(below) - left_bytes, batch - below
        grows = more_bytes * more_images > 0
        after = batch + (left_bytes * more_images // more_bytes if grows else batch)
        after = min(max(after, 1), LARGEST_BATCH)
        if after in (batch, below):
            break
        below, batch = batch, after
    return batch


def _bracket(fits: Callable[[int], bool], guess: int) -> tuple[int, int]:
    """A batch that fits (or 0) and a larger one that does not, in steps that double from `guess`."""
    step = 1
    if fits(guess):
        low = guess
        while low < LARGEST_BATCH and fits(further := min(low + step, LARGEST_BATCH)):
            low, step = further, 2 * step
        return low, min(low + step, LARGEST_BATCH) if low < LARGEST_BATCH else low + 1
    high = guess
    while high > step and not fits(high - step):
        high, step = high - step, 2 * step
    return max(high - step, 0), high
