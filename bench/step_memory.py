"""The memory of anybody's training step, asked and asserted, without a GPU.

    step = StepMemory(make_step)
    step.largest_batch(cap="8GB")
    step.assert_peak_below("6GiB", batch=8)

Tests get it from the fixture of bench.pytest_plugin, and any other test framework by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.config import own_cards
from bench.errors import UsageError
from bench.memory import Card, NotRecordableError, Probe, SimulatedEngine, Trace, card_of_capacity
from bench.memory.by_card import StepByCard
from bench.memory.explaining.explain import explain
from bench.memory.explaining.sources import locate
from bench.memory.forms import as_make_step
from bench.memory.gpus import ENDLESS_BYTES, card_named
from bench.memory.prediction import prediction
from bench.memory.recording import places
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS
from bench.report.terminal import composition
from bench.units import format_bytes, parse_bytes

FILE_NAME = "bench.toml"


class StepMemory:
    """A training step, recorded once for every batch size and card.

    Args:
        make_step: `make_step(batch, device)` builds model and optimiser on `device` and returns one training step; or
            another of the forms of bench.memory.forms.
        steps: Training steps to look at; optimiser state appears in the first, so at least 2.

    Every answer is recorded at its own batch: what the step does there counts, and not what it does at small ones.

    Raises:
        NotRecordableError: the step cannot be recorded, does not allocate the same each time, or keeps more memory each
            time; the message says why, and at which line.
        ValueError: less than two steps, or a function of another form.
    """

    def __init__(self, make_step: Callable[..., Any], steps: int = STEPS) -> None:
        self._make_step = make_step = as_make_step(make_step)
        self._steps = steps
        try:
            self._step = StepByCard(make_step, steps)
        except NotRecordableError as error:
            raise _placed(error) from error

    @property
    def trace(self) -> Trace:
        """The events of the step, with the kernels of an ordinary card: at a batch that was asked about those there."""
        return self._step.on(None).trace

    _trace = trace  # by its earlier name

    def largest_batch(self, *, cap: str | None = None, gpu: str | None = None) -> int:
        """The largest batch that fits a card; 0 if batch 1 does not.

        Raises:
            ValueError: as from `chosen_card`.
        """
        return self._largest(chosen_card(cap, gpu))

    def peak(self, batch: int, *, cap: str | None = None, gpu: str | None = None) -> Probe:
        """`peak_allocated_bytes` and `peak_reserved_bytes` of PyTorch's allocator, where memory has no limit.

        With the kernels of the card `gpu`; else with the most that kernels take on any card of the capacity `cap`, or
        on any known card: a bound.

        Raises:
            ValueError: the batch is less than 1, or as from `chosen_card` with both.
        """
        if batch < 1:
            raise ValueError(f"a batch is at least 1, got {batch}")
        card = _kernels(cap, gpu)
        try:
            with on_cuda(card):
                self._step.on(card).holds_at(batch)
        except NotRecordableError as error:
            raise _placed(error) from error
        return self._engine(card).without_limit().probe(batch)

    def assert_largest_batch(self, *, at_least: int, cap: str | None = None, gpu: str | None = None) -> None:
        """Assert that so many samples fit a card.

        Raises:
            AssertionError: they do not; the message says what memory is taken by where it runs out.
            ValueError: as from `chosen_card`.
        """
        __tracebackhide__ = True
        card = chosen_card(cap, gpu)
        largest = self._largest(card)
        if largest < at_least:
            raise AssertionError(
                f"the largest batch that fits {card.name} is {largest}, at least {at_least} was asked for\n\n"
                f"{card.name} is {card.total_bytes:,} bytes: {card.usable_bytes:,} are usable, "
                f"{card.context_bytes:,} taken by the CUDA context\n\n"
                f"{self._explained(card, self._engine(card), largest + 1)}"
            )

    def assert_peak_below(self, limit: str, *, batch: int, cap: str | None = None, gpu: str | None = None) -> None:
        """Assert that a batch reserves less than `limit`, such as "6GiB", on the cards that `peak` is told.

        Raises:
            AssertionError: it reserves as much or more; the message says what the peak is made of.
            ValueError: the limit is not a size, or as from `peak`.
        """
        __tracebackhide__ = True
        limit_bytes = parse_bytes(limit)
        peak_bytes = self.peak(batch, cap=cap, gpu=gpu).peak_reserved_bytes
        if peak_bytes >= limit_bytes:
            just_enough = Card("a card that just holds it", peak_bytes, 0, None, None, "the step's own peak")
            kernels = _kernels(cap, gpu)
            raise AssertionError(
                f"batch {batch} reserves {format_bytes(peak_bytes)} ({peak_bytes:,} bytes) at its peak on "
                f"{kernels.name}, "
                f"less than {limit} ({limit_bytes:,} bytes) was asked for\n\n"
                f"{self._explained(kernels, self._engine(just_enough, kernels), batch)}"
            )

    def _engine(self, card: Card, kernels: Card | None = None) -> SimulatedEngine:
        """A card with cuDNN's own workspaces, or else with the most that they can be; `kernels` may be another's."""
        return prediction(self._step.on(kernels or card).trace, card, kernels_of=kernels)

    def _largest(self, card: Card) -> int:
        try:
            with on_cuda(card):
                step = self._step.on(card)
                return step.largest_batch(lambda trace: prediction(trace, card)).batch
        except NotRecordableError as error:
            raise _placed(error) from error

    def _explained(self, kernels: Card, engine: SimulatedEngine, batch: int) -> str:
        try:
            with on_cuda(kernels):
                sources = locate(self._make_step, self._step.on(kernels).trace, batch, self._steps)
        except NotRecordableError as error:
            return f"What the memory is taken by cannot be told: {error}"
        return composition.text(explain(engine, batch, sources), f"Batch {batch}, {engine.card.name}")


_ANY = Card("any known card", ENDLESS_BYTES, 0, None, None, "no card is as large")


def _kernels(cap: str | None, gpu: str | None) -> Card:
    """The card whose kernels run."""
    return _ANY if cap is None and gpu is None else chosen_card(cap, gpu)


def chosen_card(cap: str | None, gpu: str | None) -> Card:
    """The card that a test names.

    Raises:
        ValueError: not exactly one of `cap` and `gpu` is given, or it is no capacity, and no known card or one of
            bench.toml in the working folder.
    """
    if (cap is None) == (gpu is None):
        got = "neither" if cap is None else "both"
        raise ValueError(f'a bound is on one card: give cap="8GB" or gpu="RTX 3080", got {got}')
    if gpu is None:
        return card_of_capacity(str(cap))
    try:
        return card_named(str(gpu))
    except ValueError:
        try:
            return card_named(str(gpu), own_cards.read(Path(FILE_NAME)))
        except UsageError as error:
            raise ValueError(str(error)) from error


def _placed(error: NotRecordableError) -> NotRecordableError:
    """The error with the user's line."""
    where = places.place(error.__cause__ or error)
    return NotRecordableError(f"{error} (at {where})" if where else str(error))
