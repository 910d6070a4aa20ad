"""A step recorded on tensors without data: what engine `simulated` answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bench.fitting.answer import Assumption, contexts_assumed
from bench.fitting.process import Process
from bench.memory import Boundary, Card, MakeStep, Probe, SimulatedEngine, Trace
from bench.memory.by_card import StepByCard
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.explaining.explain import Category, Explanation, explain
from bench.memory.explaining.sources import Source, locate
from bench.memory.prediction import prediction
from bench.memory.recording.attention import ORDINARY
from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import BATCH, STEPS, events_beside
from bench.memory.recording.refusals import FailsAtBatchError
from bench.memory.recording.values import AssumedValue, Read, reads_noted
from bench.streams import in_silence


class Recorded:
    """A step recorded on tensors without data, replayed through PyTorch's allocator.

    `first` is the card that is asked about first.

    Raises:
        NotRecordableError: it cannot be recorded, or does not do the same each time.
    """

    name = "simulated"

    def __init__(
        self, make_step: MakeStep, steps: int = STEPS, process: Process | None = None, first: Card | None = None
    ) -> None:
        self.make_step = make_step
        self._steps = steps
        self.process = process or Process()
        self._said: list[Assumption] = []
        self._not_known: list[str] = []  # cards, some of whose workspaces are bounds
        self._reads_at_small: list[tuple[Read, ...] | None] = []
        with self._listening(first):
            self._recorded = StepByCard(make_step, steps, first)

    def seen(self, card: Card) -> Card:
        """A card, as far as the process and the step may take it."""
        with self._listening(card):
            fraction = self._recorded.on(card).trace.memory_fraction
        return replace(self.process.on(card), memory_fraction=min(fraction, self.process.memory_fraction))

    def largest(self, card: Card) -> Boundary:
        """The largest batch, of which that and the next are recorded as they are."""
        with self._listening(card):
            step = self._recorded.on(card)
            found = step.largest_batch(lambda trace: self._engine(card, trace))
        if workspaces(card) is not None and not self._engine(card, step.trace).knows_workspaces(max(found.batch, 1)):
            self._not_known.append(card.name)
        return found

    def probe(self, card: Card, batch: int) -> Probe:
        """One batch, recorded as it is."""
        return self._at(card, batch).probe(batch)

    def needed(self, card: Card, batch: int) -> Probe:
        """One batch where memory has no limit."""
        return self._at(card, batch).without_limit().probe(batch)

    def made_of(self, card: Card, batch: int) -> Explanation | None:
        """What the peak of a batch is made of; of one that does not fit, what it would be made of."""
        found = self.located(card, batch)
        if found is None:
            return None
        engine, sources = found
        if not engine.probe(batch).fits:
            engine = engine.without_limit()
        explained = explain(engine, batch, sources)
        card = self.seen(card)
        left_bytes = card.usable_bytes - explained.peak_reserved_bytes  # below zero, what it needs too much
        beside = {Category.FREE: left_bytes, Category.CONTEXT: card.context_bytes}
        return replace(explained, card=card, categories=explained.categories | beside)

    def located(self, card: Card, batch: int) -> tuple[SimulatedEngine, list[Source]] | None:
        """The step at a batch, and where each of its allocations comes from; None if it does not run there."""
        with self._listening(card):
            step = self._recorded.on(card)
            if not step.runs_at(batch):
                return None
            return self._engine(card, step.trace), locate(self.make_step, step.trace, batch, self._steps)

    def reads(self, card: Card, batch: int) -> tuple[Read, ...] | None:
        """What the step brings to the host at a batch, known or assumed; None if it does not run there."""
        if not self._reads_at_small:
            self._reads_at_small = [self._reads_of(card, each) for each in (BATCH, BATCH + 1)]
        one, other = self._reads_at_small
        return one if one == other else self._reads_of(card, batch)

    def assumed(self, cards: Sequence[Card]) -> tuple[Assumption, ...]:
        """Bounds of workspaces, the context, and what the recording said."""
        unknown = [card.name for card in cards if card.compute_capability is None]
        convolves = self._recorded.on(cards[0]).trace.convolutions
        bounded = [card.name for card in cards if workspaces(card) is None] if convolves else []
        return (
            *contexts_assumed(cards),
            *self.process.assumed,
            *(Assumption(_most_of_any(name)) for name in bounded),
            *(Assumption(_most_possible(name)) for name in dict.fromkeys(self._not_known)),
            *(
                Assumption(f"attention on {name} is as on an {ORDINARY}")
                for name in unknown
                if self._recorded.has_attention
            ),
            *self.said,
        )

    @property
    def said(self) -> tuple[Assumption, ...]:
        """What recordings said so far."""
        return tuple(dict.fromkeys(self._said))

    def _reads_of(self, card: Card, batch: int) -> tuple[Read, ...] | None:
        with self._listening(card), reads_noted() as reads:
            try:
                events_beside(self.make_step, batch, self._steps)
            except FailsAtBatchError:
                return None
        return tuple(reads)

    def _at(self, card: Card, batch: int) -> SimulatedEngine:
        with self._listening(card):
            step = self._recorded.on(card)
            step.runs_at(batch)
        return self._engine(card, step.trace)

    def _engine(self, card: Card, trace: Trace) -> SimulatedEngine:
        return prediction(trace, self.process.on(card), self.process.config)

    @contextmanager
    def _listening(self, card: Card | None) -> Iterator[None]:
        """Run the step as on a GPU, and note what the recording warns of.

        What the user's program prints and warns of has been seen by its author.
        """
        with warnings.catch_warnings(record=True) as heard, in_silence(), on_cuda(card):
            warnings.simplefilter("always")
            try:
                yield
            finally:
                for message in (each.message for each in heard):
                    if isinstance(message, AssumedValue):
                        self._said.append(Assumption(message.what, message.place, is_value=True))
                    elif isinstance(message, NotRecordedWarning):
                        self._said.append(Assumption(str(message)))


def _most_of_any(name: str) -> str:
    return f"convolutions on {name} take the most workspace that they take on any known card of that size"


def _most_possible(name: str) -> str:
    return (
        f"convolutions on {name} whose workspace is not among the shipped answers take the most that they could; "
        "cuDNN itself is asked where it is installed: pip install 'nvidia-cudnn-cu13>=9.19,<9.27'"
    )
