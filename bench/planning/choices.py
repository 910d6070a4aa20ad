"""What a plan chooses among, and the cheapest of it that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.memory import Card

if TYPE_CHECKING:
    from bench.fitting.answer import Assumption


@dataclass(frozen=True)
class Choice:
    """A combination of strategies, and what it takes for the batch that is planned.

    Attributes:
        strategy: its name.
        work: what a step takes beside plain's, in the plan's measure; None where nothing is known.
        peak_reserved_bytes: on a card without a limit.
        fits: on the card.
    """

    strategy: str
    work: float | None
    peak_reserved_bytes: int
    fits: bool

    @property
    def order(self) -> tuple[float, int]:
        """Cheap ones first, and of equal ones the smaller; what nothing is known of comes last, by its memory."""
        return math.inf if self.work is None else self.work, self.peak_reserved_bytes


@dataclass(frozen=True)
class Plan:
    """All combinations that can be taken.

    Attributes:
        what: is planned, by the names that JSON has: {"architecture": "LUSER-SW", "task": "ct"}.
        name: the same in a sentence.
        measure: of work: what a table's column is called, and what it is.
        card: on which it shall fit.
        batch: that shall fit.
        choices: cheapest first.
        remarks: sentences about what was left out, and what holds only under a condition.
        assumed: what was taken to be so.
    """

    what: Mapping[str, str]
    name: str
    measure: tuple[str, str]
    card: Card
    batch: int
    choices: tuple[Choice, ...]
    remarks: tuple[str, ...] = ()
    assumed: tuple[Assumption, ...] = ()

    @property
    def front(self) -> list[Choice]:
        """Those of which none takes both no more work and no more memory, the cheapest first."""
        front: list[Choice] = []
        for choice in self.choices:
            if not front or choice.peak_reserved_bytes < front[-1].peak_reserved_bytes:
                front.append(choice)
        return front

    @property
    def cheapest(self) -> Choice | None:
        """The first that fits, if any does."""
        return next((choice for choice in self.choices if choice.fits), None)

    @property
    def missing_bytes(self) -> int:
        """By how much the one that takes least misses the card."""
        return min(choice.peak_reserved_bytes for choice in self.choices) - self.card.usable_bytes
