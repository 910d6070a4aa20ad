"""One way after another to run a step of the user's: what each takes at one batch on one card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from bench.fitting import Engine, OnDevice, Recorded, Step, engine_of, recorded_step
from bench.fitting.answer import Assumption
from bench.fitting.changes import Changed, micro_batches
from bench.fitting.named_step import named
from bench.fitting.observed import Observed, observe
from bench.fitting.one_batch import OneBatch
from bench.fitting.process import Process
from bench.memory import Card, Probe
from bench.memory.measuring.cuda import CudaEngine
from bench.memory.recording.on_cuda import on_cuda
from bench.planning.seconds import moving_seconds
from bench.streams import in_silence
from bench.virtual import VirtualEngine

PLAIN, EXPANDABLE = "plain", "expandable"
_RECORDED_PARTS, _OBSERVED_PARTS = 4, 3  # of micro-batches: all between the first and the last do the same


class Way(NamedTuple):
    """How a step is run: changes by name, in how many parts, and whether the allocator's segments grow."""

    names: tuple[str, ...] = ()
    parts: int = 1
    is_expandable: bool = False

    @property
    def name(self) -> str:
        """With "+" between: "host+fused+micro-batches-4"."""
        parts = [f"{micro_batches.NAME}-{self.parts}"] if self.parts > 1 else []
        return "+".join([*self.names, *parts, *([EXPANDABLE] if self.is_expandable else [])]) or PLAIN


class Taken(NamedTuple):
    """What the batch reserves where memory has no limit, and whether it fits the card."""

    peak_reserved_bytes: int
    fits: bool


class Trials:
    """A step asked at one batch on one card, by an engine; recorded beside it whatever the engine.

    Raises:
        NotRecordableError, UsageError, WrongFormError: as from `engine_of` and `recorded_step`.
    """

    def __init__(self, step: Step, card: Card, batch: int, engine: str, steps: int) -> None:
        self._fit: Engine = engine_of(step, engine, [card], steps)
        recorded = self._fit if isinstance(self._fit, Recorded) else None
        if isinstance(self._fit, OnDevice):
            recorded = self._fit.recorded
        self._recorded = recorded or recorded_step(step, steps, card)
        self._device = {"virtual": VirtualEngine, "cuda": CudaEngine}.get(self._fit.name)
        self._step, self._card, self._batch, self._steps = step, card, batch, steps
        self._recordings: dict[Way, OneBatch] = {}
        self._seconds: dict[Way, float] = {}

    @property
    def engine(self) -> str:
        """What answers: "simulated", "virtual" or "cuda"."""
        return self._fit.name

    @property
    def card(self) -> Card:
        """The card, as far as the step may take it."""
        return self._fit.seen(self._card)

    @property
    def assumed(self) -> tuple[Assumption, ...]:
        """What was taken to be so."""
        return self._fit.assumed([self._card])

    def plain(self) -> Taken:
        """What the step as it is takes, asked as `bench fit` asks."""
        needed = self._fit.needed(self._card, self._batch)
        return Taken(needed.peak_reserved_bytes, self._fit.probe(self._card, self._batch).fits)

    def simulated(self, way: Way) -> Taken:
        """What another way takes, by its recording.

        Raises:
            FailsAtBatchError: the step does not run so.
        """
        engine = self._recording(way).engine(self._process(way))
        return self._told(way, engine.without_limit().probe, engine.probe)

    def on_device(self, way: Way) -> Taken:
        """The same, by the engine's device, where it has one.

        Raises:
            ProbeFailedError: it gave no answer.
        """
        sent = named(self._step)
        if self._device is None or sent is None:
            return self.simulated(way)
        process = self._process(way)
        options: dict[str, Any] = {"steps": self._steps, "alloc_conf": process.alloc_conf}
        is_virtual = self._device is VirtualEngine
        if is_virtual:
            reads = self._recording(way).reads
            options["reads_at"] = lambda batch: reads
        engine: Callable[[Card], CudaEngine] = partial(self._device, Changed(sent, way.names, way.parts), **options)
        card = process.on(self._card)
        return self._told(way, engine(card.without_limit() if is_virtual else card).probe, engine(card).probe)

    def _told(self, way: Way, needed: Callable[[int], Probe], on_card: Callable[[int], Probe]) -> Taken:
        samples = self._batch // way.parts
        needed_bytes = needed(samples).peak_reserved_bytes
        return Taken(needed_bytes, needed_bytes <= self.card.usable_bytes or on_card(samples).fits)

    def can_expand(self) -> bool:
        """Whether the process can be told expandable_segments:True, and was not yet."""
        try:
            expanded = self._process(Way(is_expandable=True)).config
        except ValueError:
            return False
        return expanded != self._recorded.process.config

    def observed(self) -> Observed:
        """What the step does as it is."""
        return self._observe(Way())

    def seconds(self, way: Way) -> float:
        """What it takes the card to move all bytes of a way."""
        way = way._replace(is_expandable=False)
        if way not in self._seconds:
            seen = self._observe(way)
            parts = min(way.parts, _OBSERVED_PARTS)
            weights = [way.parts - 2 if 0 < call % parts < parts - 1 else 1 for call in range(len(seen.kernel_bytes))]
            kernel_bytes, host_bytes = (
                sum(weight * size for weight, size in zip(weights, sizes, strict=True))
                for sizes in (seen.kernel_bytes, seen.host_bytes)
            )
            self._seconds[way] = moving_seconds(kernel_bytes, host_bytes, self._card)
        return self._seconds[way]

    def _process(self, way: Way) -> Process:
        process = self._recorded.process
        if not way.is_expandable:
            return process
        return replace(process, alloc_conf=",".join(filter(None, [process.alloc_conf, "expandable_segments:True"])))

    def _observe(self, way: Way) -> Observed:
        changed = partial(Changed, names=way.names, parts=min(way.parts, _OBSERVED_PARTS))
        with in_silence(), on_cuda(self._card):
            return observe(self._recorded.make_step, self._batch // way.parts, self._steps, changed)

    def _recording(self, way: Way) -> OneBatch:
        way = way._replace(is_expandable=False)
        if way not in self._recordings:
            step = Changed(self._recorded.make_step, way.names, min(way.parts, _RECORDED_PARTS))
            self._recordings[way] = OneBatch(step, self._batch // way.parts, self._card, self._steps)
        return self._recordings[way]
