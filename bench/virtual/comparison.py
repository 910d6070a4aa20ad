"""A recording held against the virtual card, event for event.

Both are sequences of allocations and frees, of which block sizes are compared. Frees that follow each other are taken
with the latest allocation first: an allocator ends up the same in any order. An allocation and a free of the same size
with nothing left in between, as brackets close, is a temporary: these are counted by size. Of the rest, what is on
one side alone is found as the smallest difference of two sequences (E. Myers, "An O(ND) difference algorithm and its
variations", 1986).
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.memory.allocator.caching import FREE, Act
from bench.memory.trace import ROUNDING_BYTES

MOST_DIFFERENCES = 4000  # the time it takes grows with their square


class TooDifferentError(Exception):
    """Two sequences have so little in common that it is not worth while to say what."""


@dataclass(frozen=True)
class Difference:
    """What differs between a recording and the virtual card: block sizes in bytes, and how often each.

    `same` counts the events that both have: temporaries by size, the rest in order. `temporaries` are those that the
    card has more of than the recording; `on_card` and `recorded` are other allocations of one alone.
    """

    same: int
    temporaries: Counter[int]
    on_card: Counter[int]
    recorded: Counter[int]

    def summary(self) -> dict[str, int]:
        """How many of each, and the bytes of the largest."""
        counts = {"same": self.same}
        for name, blocks in (("temporaries", self.temporaries), ("on_card", self.on_card), ("recorded", self.recorded)):
            counts |= {name: blocks.total(), f"largest_of_{name}": max(blocks, default=0)}
        return counts


def compare(recorded: Iterable[tuple[int, int | Act]], on_card: Iterable[tuple[int, int | Act]]) -> Difference:
    """Hold a recording against what a card did.

    Args:
        recorded: (key, bytes), or (key, FREE): a trace at one batch (Trace.at), whose other acts are passed over.
        on_card: the same of a card.

    Raises:
        TooDifferentError: they differ in thousands of events.
    """
    ours, theirs = _apart(recorded), _apart(on_card)
    only_ours, only_theirs = smallest_difference(ours.rest, theirs.rest)
    our_temporaries, their_temporaries = (Counter(side.temporaries.values()) for side in (ours, theirs))
    more = their_temporaries - our_temporaries
    left = Counter(ours.rest[place] for place in only_ours if ours.rest[place] > 0)
    moved = more & left  # a temporary there, freed later here
    return Difference(
        same=len(ours.rest) - len(only_ours) + 2 * ((our_temporaries & their_temporaries) + moved).total(),
        temporaries=more - moved,
        on_card=Counter(theirs.rest[place] for place in only_theirs if theirs.rest[place] > 0),
        recorded=left - moved + (our_temporaries - their_temporaries),
    )


def pairs(recorded: Iterable[tuple[int, int | Act]], on_card: Iterable[tuple[int, int | Act]]) -> dict[int, int]:
    """Which allocation of a recording each of a card's is: places among the card's events -> among the recording's.

    Temporaries are paired where the same events surround them, in order, by size. What the card alone has is left out.

    Args and Raises:
        as `compare`.
    """
    ours, theirs = _apart(recorded), _apart(on_card)
    only_ours, only_theirs = map(set, smallest_difference(ours.rest, theirs.rest))
    our_common = [place for number, place in enumerate(ours.places) if number not in only_ours]
    their_common = [place for number, place in enumerate(theirs.places) if number not in only_theirs]
    found = dict(zip(their_common, our_common, strict=True))
    between: dict[int, list[int]] = {}
    for place in sorted(ours.temporaries):
        between.setdefault(bisect(our_common, place), []).append(place)
    for place in sorted(theirs.temporaries):
        waiting = between.get(bisect(their_common, place), [])
        size_bytes = theirs.temporaries[place]
        number = next((n for n, other in enumerate(waiting) if ours.temporaries[other] == size_bytes), None)
        if number is not None:
            found[place] = waiting[number]
            del waiting[: number + 1]
    return found


def with_emptyings(
    events: Iterable[tuple[int, int | Act]], emptyings: Iterable[int]
) -> Iterator[tuple[int, int | Act]]:
    """A card's events, to be replayed: the cache is emptied after so many of them, each time."""
    places = set(emptyings)
    for place, event in enumerate(events):
        if place in places:
            yield -1, Act.EMPTY_CACHE
        yield event


class _Apart(NamedTuple):
    """Events without temporaries: blocks, + where allocated and - where freed, and the places of these events.

    Of each temporary, the block by the place of its allocation.
    """

    rest: list[int]
    places: list[int]
    temporaries: dict[int, int]


def _apart(events: Iterable[tuple[int, int | Act]]) -> _Apart:
    """Temporaries, and the rest. An allocation of no bytes is none."""
    blocks: dict[int, int] = {}
    apart = _Apart([], [], {})
    for place, (key, size_bytes) in _latest_first(events):
        if isinstance(size_bytes, int):
            blocks[key] = -(-size_bytes // ROUNDING_BYTES) * ROUNDING_BYTES
            if not size_bytes:
                continue
            apart.rest.append(blocks[key])
        elif apart.rest and apart.rest[-1] == blocks[key]:
            apart.temporaries[apart.places.pop()] = apart.rest.pop()
            continue
        elif blocks[key]:
            apart.rest.append(-blocks[key])
        else:
            continue
        apart.places.append(place)
    return apart


def _latest_first(events: Iterable[tuple[int, int | Act]]) -> Iterator[tuple[int, tuple[int, int | Act]]]:
    """Events with their places, those of a run of frees in the reverse order of their allocations."""
    allocated_at: dict[int, int] = {}
    run: list[tuple[int, tuple[int, int | Act]]] = []
    for place, event in enumerate(events):
        key, size_bytes = event
        if size_bytes is Act.EMPTY_CACHE:
            continue
        if size_bytes is FREE:
            run.append((place, event))
            continue
        yield from sorted(run, key=lambda free: -allocated_at[free[1][0]])
        run.clear()
        allocated_at[key] = place
        yield place, event
    yield from sorted(run, key=lambda free: -allocated_at[free[1][0]])


def smallest_difference(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places in `one` and in `other` that the other has not: as few as can be, in order.

    Raises:
        TooDifferentError: they are thousands.
    """
    reached = {1: 0}  # how far into `one` each diagonal goes with so many differences
    history = []
    for differences in range(min(len(one) + len(other), MOST_DIFFERENCES) + 1):
        history.append(dict(reached))
        for diagonal in range(-differences, differences + 1, 2):
            down = diagonal == -differences or (
                diagonal != differences and reached[diagonal - 1] < reached[diagonal + 1]
            )
            x = reached[diagonal + 1] if down else reached[diagonal - 1] + 1
            y = x - diagonal
            while x < len(one) and y < len(other) and one[x] == other[y]:
                x, y = x + 1, y + 1
            reached[diagonal] = x
            if x >= len(one) and y >= len(other):
                return _walk_back(history, len(one), len(other))
    raise TooDifferentError(f"two sequences of events differ in more than {MOST_DIFFERENCES} events")


def _walk_back(history: list[dict[int, int]], x: int, y: int) -> tuple[list[int], list[int]]:
    only_one: list[int] = []
    only_other: list[int] = []
    for differences in range(len(history) - 1, 0, -1):
        reached, diagonal = history[differences], x - y
        down = diagonal == -differences or (diagonal != differences and reached[diagonal - 1] < reached[diagonal + 1])
        x = reached[diagonal + 1 if down else diagonal - 1]
        y = x - (diagonal + 1 if down else diagonal - 1)
        (only_other if down else only_one).append(y if down else x)
    return only_one[::-1], only_other[::-1]
