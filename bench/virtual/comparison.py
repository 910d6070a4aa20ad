"""A recording held against the virtual card, event for event.

Both are sequences of allocations and frees, of which block sizes are compared. An allocation and a free of the same
size with nothing left in between, as brackets close, is a temporary: these are counted by size. Of the rest, what is on
one side alone is found as the smallest difference of two sequences (E. Myers, "An O(ND) difference algorithm and its
variations", 1986).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.memory.allocator.caching import FREE
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


def compare(recorded: Iterable[tuple[int, int]], on_card: Iterable[int]) -> Difference:
    """Hold a recording against what a card did.

    Args:
        recorded: (key, bytes), or (key, FREE): a trace at one batch (Trace.at).
        on_card: bytes of each allocation, or -k for the free of the k-th last.

    Raises:
        TooDifferentError: they differ in thousands of events.
    """
    ours, our_temporaries = _apart(recorded)
    theirs, their_temporaries = _apart(keyed(on_card))
    only_ours, only_theirs = smallest_difference(ours, theirs)
    return Difference(
        same=len(ours) - len(only_ours) + 2 * (our_temporaries & their_temporaries).total(),
        temporaries=their_temporaries - our_temporaries,
        on_card=Counter(theirs[place] for place in only_theirs if theirs[place] > 0),
        recorded=Counter(ours[place] for place in only_ours if ours[place] > 0) + (our_temporaries - their_temporaries),
    )


def keyed(on_card: Iterable[int]) -> Iterator[tuple[int, int]]:
    """A card's events in the form of a trace's: (key, bytes), or (key, FREE)."""
    allocations = 0
    for event in on_card:
        allocations += event > 0
        yield (allocations, event) if event > 0 else (allocations + 1 + event, FREE)


def _apart(events: Iterable[tuple[int, int]]) -> tuple[list[int], Counter[int]]:
    """Blocks, + where allocated and - where freed, without temporaries; and those by size.

    An allocation of no bytes is none.
    """
    blocks: dict[int, int] = {}
    rest: list[int] = []
    temporaries: Counter[int] = Counter()
    for key, size_bytes in events:
        if size_bytes != FREE:
            blocks[key] = -(-size_bytes // ROUNDING_BYTES) * ROUNDING_BYTES
            if size_bytes:
                rest.append(blocks[key])
        elif rest and rest[-1] == blocks[key]:
            temporaries[rest.pop()] += 1
        elif blocks[key]:
            rest.append(-blocks[key])
    return rest, temporaries


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
