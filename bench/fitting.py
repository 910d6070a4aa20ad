"""Does a training step fit? The answer as data, from whatever runs the step.

`Recorded` records it on tensors without data and replays the recording; `OnDevice` runs it as it is, on the virtual
card or on a GPU. Both give the largest batch per card, what one batch leaves free or needs too much, and what was
assumed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch

from bench.errors import UsageError
from bench.memory import Boundary, Card, MakeStep, Probe, SimulatedEngine, Trace, largest_batch
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.by_card import StepByCard
from bench.memory.cudnn.envelope import Envelope, with_most_cublas
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.explaining.explain import Category, Explanation, explain
from bench.memory.explaining.sources import locate
from bench.memory.forms import as_make_step
from bench.memory.gpus import ASSUMED_CONTEXT_BYTES
from bench.memory.measuring.cuda import CudaEngine, NoGpuError, require_gpu
from bench.memory.recording.attention import ORDINARY
from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS
from bench.memory.recording.values import AssumedValue
from bench.memory.search import LARGEST_BATCH, where_room_ends
from bench.memory.simulated import ENDLESS_BYTES, installed_release
from bench.model_step import ModelStep
from bench.named_step import named
from bench.units import format_bytes
from bench.user_step import load_step
from bench.virtual import NoVirtualCardError, VirtualDevice, VirtualEngine, VirtualMeasurement
from bench.virtual.figures import kernels_of

Step = str | ModelStep | Callable[..., Any]
"""A step as such, by its name, or around a network."""


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
    if batch is not None:
        return OnCard(card, boundary, engine.probe(card, batch), engine.needed(card, batch))
    return OnCard(card, boundary, needed=None if boundary.batch else engine.needed(card, 1))


class Recorded:
    """A step recorded on tensors without data, replayed through PyTorch's allocator.

    Raises:
        NotRecordableError: it cannot be recorded, or does not do the same each time.
    """

    name = "simulated"

    def __init__(self, make_step: MakeStep, steps: int = STEPS, alloc_conf: str = "") -> None:
        self._make_step = make_step
        self._steps = steps
        self._config = AllocatorConfig.parse(alloc_conf, installed_release())
        self._said: list[Assumption] = []
        self._not_known: list[str] = []  # cards, some of whose workspaces are bounds
        with self._listening(None):
            self._recorded = StepByCard(make_step, steps)

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
        with self._listening(card):
            step = self._recorded.on(card)
            if not step.runs_at(batch):
                return None
            sources = locate(self._make_step, step.trace, batch, self._steps)
        engine = self._engine(card, step.trace)
        if not engine.probe(batch).fits:
            engine = engine.without_limit()
        explained = explain(engine, batch, sources)
        left_bytes = card.usable_bytes - explained.peak_reserved_bytes  # below zero, what it needs too much
        beside = {Category.FREE: left_bytes, Category.CONTEXT: card.context_bytes}
        return replace(explained, card=card, categories=explained.categories | beside)

    def assumed(self, cards: Sequence[Card]) -> tuple[Assumption, ...]:
        """Bounds of workspaces, the context, and what the recording said."""
        unknown = [card.name for card in cards if card.compute_capability is None]
        convolves = self._recorded.on(cards[0]).trace.convolutions
        bounded = [card.name for card in cards if workspaces(card) is None] if convolves else []
        return (
            *_of_contexts(cards),
            *(Assumption(_most_of_any(name)) for name in bounded),
            *(Assumption(_most_possible(name)) for name in dict.fromkeys(self._not_known)),
            *(
                Assumption(f"attention on {name} is as on an {ORDINARY}")
                for name in unknown
                if self._recorded.has_attention
            ),
            *dict.fromkeys(self._said),
        )

    def _at(self, card: Card, batch: int) -> SimulatedEngine:
        with self._listening(card):
            step = self._recorded.on(card)
            step.runs_at(batch)
        return self._engine(card, step.trace)

    def _engine(self, card: Card, trace: Trace) -> SimulatedEngine:
        source = workspaces(card)
        if source is None:
            return SimulatedEngine(trace, with_most_cublas(card), config=self._config, workspaces=Envelope(card))
        return SimulatedEngine(trace, card, config=self._config, workspaces=source)

    @contextmanager
    def _listening(self, card: Card | None) -> Iterator[None]:
        """Run the step as on a GPU, and note what the recording warns of.

        What the user's program prints and warns of has been seen by its author.
        """
        with warnings.catch_warnings(record=True) as heard, redirect_stdout(io.StringIO()), on_cuda(card):
            warnings.simplefilter("always")
            try:
                yield
            finally:
                for message in (each.message for each in heard):
                    if isinstance(message, AssumedValue):
                        self._said.append(Assumption(message.what, message.place, is_value=True))
                    elif isinstance(message, NotRecordedWarning):
                        self._said.append(Assumption(str(message)))


class OnDevice:
    """A step run as it is: on the virtual card, or on a GPU whose allocator is capped.

    `first_guess` tells where the search for a card starts; None: at what two small batches take.
    """

    def __init__(
        self,
        engine: type[CudaEngine],
        make_step: MakeStep,
        steps: int = STEPS,
        alloc_conf: str = "",
        recorded: Recorded | None = None,
    ) -> None:
        self.name = engine.name
        self._recorded = recorded
        self._seen: list[CudaEngine] = []
        self._of = lambda card, guess: engine(make_step, card, first_guess=guess, steps=steps, alloc_conf=alloc_conf)

    def largest(self, card: Card) -> Boundary:
        """The largest batch, every probe of which is a run; where the recording says the same, two runs show it."""
        guess = self._guess(card)
        is_others = self._recorded is not None and self.name != CudaEngine.name
        return largest_batch(self._engine(card, guess), trusted=guess if is_others else None)

    def probe(self, card: Card, batch: int) -> Probe:
        """One run."""
        return self._engine(card).probe(batch)

    def needed(self, card: Card, batch: int) -> Probe:
        """One run on a card of the same kernels with memory without a limit; on a GPU, with all that it has."""
        if self.name == CudaEngine.name:
            return self.probe(card, batch)
        return self._engine(_endless(card)).probe(batch)

    def made_of(self, card: Card, batch: int) -> Explanation | None:
        """What the recording says of it, where there is one."""
        return self._recorded.made_of(card, batch) if self._recorded else None

    def assumed(self, cards: Sequence[Card]) -> tuple[Assumption, ...]:
        """The values that the step read or selected by, sizes that are not known, and what stands for what."""
        seen = [each for engine in self._seen for each in engine.measurements.values()]
        virtual = [each for each in seen if isinstance(each, VirtualMeasurement)]
        read = max((each.values_read for each in virtual), default=0)
        selections = max((each.selections for each in virtual), default=0)
        assumed = _of_contexts(cards)
        if self.name == VirtualEngine.name:
            capacities = [card for card in cards if card.compute_capability is None]
            assumed += [Assumption(f"{card.name} has the kernels of an {kernels_of(card).name}") for card in capacities]
        if read:
            what = f"the {read} values that the step reads back from the card are taken as 0"
            assumed.append(Assumption(what, is_value=True))
        if selections:
            what = f"the {selections} times that the step selects elements by value, it selects none"
            assumed.append(Assumption(what, is_value=True))
        unknown = sorted({name for each in virtual for name in each.lower_bounds})
        if unknown:
            assumed.append(Assumption(f"{', '.join(unknown)} ask for buffers of unknown size: taken as 0 bytes"))
        return tuple(assumed)

    def _engine(self, card: Card, guess: int = 1) -> CudaEngine:
        self._seen.append(self._of(card, guess))
        return self._seen[-1]

    def _guess(self, card: Card) -> int:
        if self._recorded:
            return self._recorded.largest(card).batch
        if self.name == CudaEngine.name:
            return 1
        endless = self._engine(_endless(card))

        @cache
        def room_bytes(batch: int) -> int:
            return card.usable_bytes - endless.probe(batch).peak_reserved_bytes

        return where_room_ends(room_bytes, 8)


def _endless(card: Card) -> Card:
    return replace(card, total_bytes=ENDLESS_BYTES, context_bytes=0)


def _of_contexts(cards: Sequence[Card]) -> list[Assumption]:
    assumed = [card.name for card in cards if card.context_bytes == ASSUMED_CONTEXT_BYTES]
    size = format_bytes(ASSUMED_CONTEXT_BYTES)
    return [Assumption(f"CUDA's own context takes {size} of {', '.join(assumed)}")] if assumed else []


def _most_of_any(name: str) -> str:
    return f"convolutions on {name} take the most workspace that they take on any known card of that size"


def _most_possible(name: str) -> str:
    return (
        f"convolutions on {name} whose workspace is not among the shipped answers take the most that they could; "
        "cuDNN itself is asked where it is installed: pip install 'nvidia-cudnn-cu13>=9.19,<9.27'"
    )


ENGINES = ("auto", "virtual", "simulated", "cuda")


def engine_of(step: Step, name: str, cards: Sequence[Card], alloc_conf: str = "") -> Engine:
    """What answers about a step, given as such or by its name (bench.user_step).

    `name` is one of ENGINES; "auto" is the virtual card where a CUDA build of PyTorch is installed and the step can
    be imported in another process, else the recording.

    Raises:
        UsageError: that cannot be had here, or not for this step.
        NotRecordableError: the step cannot be recorded, and was to be.
    """
    sent = named(step)
    if name == "auto":
        name = "virtual" if torch.version.cuda and sent else "simulated"
    if name == "simulated":
        return recorded_step(step, alloc_conf)
    if sent is None:
        raise UsageError(
            f"the {name} engine runs steps in another process, which has to import them: write it in a file"
        )
    try:
        if name == "cuda":
            require_gpu(max(card.usable_bytes for card in cards))
        else:
            for card in cards:
                VirtualDevice(card)
    except (NoGpuError, NoVirtualCardError) as error:
        raise UsageError(str(error)) from error
    engine = CudaEngine if name == "cuda" else VirtualEngine
    return OnDevice(engine, sent, alloc_conf=alloc_conf, recorded=_recorded_if_it_can(step, alloc_conf))


def recorded_step(step: Step, alloc_conf: str = "") -> Recorded:
    """A step given as such or by its name, recorded."""
    if isinstance(step, str):
        with on_cuda(), redirect_stdout(io.StringIO()):
            step = load_step(step)
    return Recorded(as_make_step(step), alloc_conf=alloc_conf)


def _recorded_if_it_can(step: Step, alloc_conf: str) -> Recorded | None:
    """The recording, for where a search starts and what a peak is made of; None where the step cannot be recorded."""
    try:
        return recorded_step(step, alloc_conf)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it raises, the engine that was asked for raises it too
        return None
