"""Whether a step fits, as data, and what an engine has to answer for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bench.memory import Boundary, Card, Probe
from bench.memory.explaining.explain import Explanation
from bench.memory.gpus import ASSUMED_CONTEXT_BYTES
from bench.memory.search import LARGEST_BATCH
from bench.units import format_bytes


class Assumption(NamedTuple):
    """Something that was taken to be so: one sentence, and the user's line that it is about, or "".

    `is_value` tells what the step's own course may depend on: a value that it reads.
    """

    what: str
    where: str = ""
    is_value: bool = False


@dataclass(frozen=True)
class OnCard:
    """The answer for one card.

    Attributes:
        card: The card.
        boundary: The largest batch that fits, and the probes that show it.
        asked: The probe of the batch that was asked about, if one was.
        needed: What that batch, or else batch 1 where nothing fits, takes where memory has no limit.
    """

    card: Card
    boundary: Boundary
    asked: Probe | None = None
    needed: Probe | None = None

    @property
    def has_no_edge(self) -> bool:
        """Whether the search came to its end before the card was full."""
        return self.boundary.batch >= LARGEST_BATCH

    @property
    def peak_bytes(self) -> int | None:
        """What the largest batch reserves; None if none fits."""
        return None if self.boundary.at_edge is None else self.boundary.at_edge.peak_reserved_bytes

    @property
    def left_bytes(self) -> int | None:
        """What the largest batch leaves of the card; None if none fits."""
        edge = self.boundary.at_edge
        return None if edge is None else self.card.usable_bytes - edge.peak_reserved_bytes

    @property
    def asked_left_bytes(self) -> int | None:
        """What the batch asked about leaves; below zero, what it needs too much."""
        if self.asked is None or self.needed is None:
            return None
        if self.asked.fits:
            return self.card.usable_bytes - self.asked.peak_reserved_bytes
        # What fits only after the cache is released reserves more than it needs: it needs a byte too much at least.
        return min(self.card.usable_bytes - self.needed.peak_reserved_bytes, -1)


@dataclass(frozen=True)
class Answer:
    """Whether a step fits, on each card.

    Attributes:
        step: Its name.
        engine: What answered: "simulated", "virtual" or "cuda".
        batch: The batch that was asked about, if one was.
        cards: The answers.
        made_of: What the peak on the first card is made of, at the batch asked about or else the largest; where memory
            has no limit, if that batch does not fit.
        assumed: What was taken to be so.
    """

    step: str
    engine: str
    batch: int | None
    cards: tuple[OnCard, ...]
    made_of: Explanation | None
    assumed: tuple[Assumption, ...]


class Engine(Protocol):
    """What runs a step."""

    name: str

    def seen(self, card: Card) -> Card:
        """A card, as far as the step may take it."""
        ...

    def largest(self, card: Card) -> Boundary:
        """The largest batch that fits a card."""
        ...

    def probe(self, card: Card, batch: int) -> Probe:
        """One batch on a card."""
        ...

    def needed(self, card: Card, batch: int) -> Probe:
        """One batch on a card with the same kernels, and memory without a limit."""
        ...

    def made_of(self, card: Card, batch: int) -> Explanation | None:
        """What the peak of a batch is made of, where memory has no limit if it does not fit.

        None if this engine cannot tell.
        """
        ...

    def assumed(self, cards: Sequence[Card]) -> tuple[Assumption, ...]:
        """What was taken to be so in the answers given so far."""
        ...


def fit(step: str, engine: Engine, cards: Sequence[Card], batch: int | None = None) -> Answer:
    """Ask an engine about a step on every card.

    Raises:
        NotRecordableError: the step cannot be recorded.
        ProbeFailedError: a run on the virtual card or a GPU ended in something else than an answer.
    """
    answers = tuple(_on_card(engine, card, batch) for card in cards)
    explained = batch or answers[0].boundary.batch or 1
    made_of = engine.made_of(cards[0], explained)
    return Answer(step, engine.name, batch, answers, made_of, engine.assumed(cards))


def _on_card(engine: Engine, card: Card, batch: int | None) -> OnCard:
    boundary = engine.largest(card)
    seen = engine.seen(card)
    if batch is not None:
        return OnCard(seen, boundary, engine.probe(card, batch), engine.needed(card, batch))
    return OnCard(seen, boundary, needed=None if boundary.batch else engine.needed(card, 1))


def contexts_assumed(cards: Sequence[Card]) -> list[Assumption]:
    """Of which cards CUDA's own context was never measured."""
    assumed = [card.name for card in cards if card.context_bytes == ASSUMED_CONTEXT_BYTES]
    size = format_bytes(ASSUMED_CONTEXT_BYTES)
    return [Assumption(f"CUDA's own context takes {size} of {', '.join(assumed)}")] if assumed else []
