"""A fit held against the step itself, at every batch that is an answer.

A trace is fitted through batches 2 and 3, and the answer may be 300. A step can do something else there: split a large
batch into smaller ones, pad it, recompute above a size. So the step is recorded at the answer too, as it is. Where it
does not do there what the fit says, the search goes on with a recording for each batch that it tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from bench.memory.explaining.sources import locate
from bench.memory.recording.metadata import OutputCache
from bench.memory.recording.recorder import BATCH, STEPS, MakeStep, events_beside, events_of, record, record_events
from bench.memory.recording.refusals import (
    DependsOnBatchError,
    FailsAtBatchError,
    GrowsError,
    NotAlikeError,
    NotRecordableError,
)
from bench.memory.recording.values import place
from bench.memory.search import LARGEST_BATCH, Boundary, Probe, largest_batch, where_room_ends
from bench.memory.simulated import SimulatedEngine
from bench.memory.trace import Event, Trace, agrees, constant

EngineOf = Callable[[Trace], SimulatedEngine]
"""Makes the engine that probes a trace on some card."""

_LARGE_BATCH = 64
_NEAR = 4  # samples, for which the answer of a fit may leave or lack room in the recording for it to be a start


class CheckedStep:
    """A training step, recorded wherever it is asked about.

    Attributes:
        trace: its events; at a batch that was checked those recorded there, elsewhere the fit's.
        is_fitted: whether one trace describes the batches that it was fitted through.

    Raises:
        NotRecordableError: as from `record`, or the step does not do the same each time, or keeps more each time.
        ValueError: less than two steps.
    """

    def __init__(self, make_step: MakeStep, steps: int = STEPS) -> None:
        self._make_step = make_step
        self._steps = steps
        self._cache = OutputCache()
        self._checked: set[int] = set()
        self._others: set[int] = set()  # batches at which the fit does not hold
        try:
            self.trace = record(make_step, steps, self._cache)
            self.is_fitted = True
        except DependsOnBatchError:
            self.trace = constant(events_of(make_step, BATCH, steps, self._cache))
            self.is_fitted = False
        self._refuse_growth()
        if not self.trace.grows and self.holds_at(_LARGE_BATCH):
            raise NotRecordableError(
                "nothing that the step allocates on `device` grows with the batch: "
                "make_step(batch, device) must build the model on `device` and train it there on `batch` samples"
            )

    def holds_at(self, batch: int) -> bool:
        """Whether the step does at `batch` what the fit says; what it does is what the trace says from now on.

        Raises:
            FailsAtBatchError: the step does not run at this batch.
        """
        if batch in self.trace.impossible:
            raise FailsAtBatchError(self.trace.impossible[batch])
        if batch not in self._checked:
            events = events_beside(self._make_step, batch, self._steps, self._cache)
            if not (agrees(self.trace, batch, events) and len(events) == len(self.trace.of(batch))):
                self.trace.exceptions[batch] = constant(events)
                self._others.add(batch)
            self._checked.add(batch)
        return batch not in self._others

    def runs_at(self, batch: int) -> bool:
        """Whether the step runs at `batch`; batch 1 is the only one at which it may fail.

        Raises:
            FailsAtBatchError: it fails at another.
        """
        try:
            self.holds_at(batch)
        except FailsAtBatchError as error:
            if batch > 1:
                raise
            self.trace.impossible[batch] = str(error)
            return False
        return True

    def largest_batch(self, engine_of: EngineOf) -> Boundary:
        """The largest batch that fits, of which that and the next one are recorded as they are.

        Raises:
            FailsAtBatchError: the step does not run at a batch that the search tries.
        """
        start, near = BATCH, 0
        if self.is_fitted and not self._others:
            found = largest_batch(engine_of(self.trace))
            for batch in (found.batch, found.batch + 1):
                if 0 < batch < LARGEST_BATCH:
                    self.runs_at(batch)
            if not self._others:
                return found
            start, near = min(found.batch, _LARGE_BATCH), found.batch
        return largest_batch(_Recording(self, engine_of, start, near))

    def _refuse_growth(self) -> None:
        """Record twice as many steps: the first half must be as before, and the second must keep nothing more."""
        events = events_of(self._make_step, BATCH, 2 * self._steps, self._cache)
        middle = len(self.trace)
        if not agrees(self.trace, BATCH, events[:middle]):
            other = _first_other(self.trace, BATCH, self._with_lines())
            raise NotAlikeError(
                f"the step does not allocate the same each time: {other}; let what is drawn at random be the largest "
                "that it can be"
            )
        kept = _alive(events)
        grown_bytes = sum(kept.values()) - sum(_alive(events[:middle]).values())
        if grown_bytes <= 0:
            return
        new = {event.key: event for event in events[middle:] if not event.is_free and event.key in kept}
        most = max(new.values(), key=lambda event: event.size_bytes)
        raise GrowsError(
            f"the step keeps {grown_bytes // self._steps:,} bytes more each time it is called, so that no batch fits "
            f"for ever: {most.op} allocates {most.size_bytes:,} of them{self._line(events, most.key)}. "
            f"If that comes to an end, give `steps` as many as it takes"
        )

    def _with_lines(self) -> list[Event]:
        """The step recorded once more, with the user's line in each event that allocates."""
        return record_events(self._make_step, BATCH, torch.device("meta"), self._steps, locate=place)

    def _line(self, events: list[Event], key: int) -> str:
        """Where in the user's program an allocation is made, or nothing where that cannot be told."""
        try:
            sources = locate(self._make_step, constant(events), BATCH, 2 * self._steps)
        except NotRecordableError:
            return ""
        keys = [event.key for event in events if not event.is_free]
        place = sources[keys.index(key)].place
        return f" at {place}" if place else ""


def check_at(make_step: MakeStep, trace: Trace, batches: Iterable[int], cache: OutputCache | None = None) -> None:
    """Record one step at each of these batches that the trace says it runs at, and hold the trace against it.

    `cache` as of `record`.

    Raises:
        DependsOnBatchError: the step does something else there.
        FailsAtBatchError: it does not run there.
    """
    for batch in batches:
        if batch in trace.impossible:  # it fails at batch 1, and the trace says so
            continue
        events = events_beside(make_step, batch, 1, cache)
        if not agrees(trace, batch, events):
            other = _first_other(trace, batch, events)
            raise DependsOnBatchError(
                f"the step is another at batch {batch} than at batches {BATCH} and {BATCH + 1}: {other}"
            )


def _first_other(trace: Trace, batch: int, events: list[Event]) -> str:
    """The first event that is not the trace's, as people say it."""
    told = trace.of(batch)
    columns = (told.op.tolist(), told.is_free.tolist(), told.sizes(batch).tolist())
    for event, op, is_free, size_bytes in zip(events, *columns, strict=False):
        happened, expected = (event.op, event.is_free, event.size_bytes), (told.op_names[op], is_free, size_bytes)
        if happened != expected:
            where = f" ({event.source})" if event.source else ""
            return f"{_said(*happened)} where {_said(*expected)} was expected{where}"
    return "it frees in another order, or allocates more or less in all"


def _said(op: str, is_free: bool, size_bytes: int) -> str:
    return f"a free after {op}" if is_free else f"{op} of {size_bytes:,} bytes"


def _alive(events: list[Event]) -> dict[int, int]:
    """Bytes of what is still there at the end, by key."""
    alive: dict[int, int] = {}
    for event in events:
        if event.is_free:
            del alive[event.key]
        else:
            alive[event.key] = event.size_bytes
    return alive


class _Recording:
    """An engine that records each batch that it is asked about, from batch `start` on.

    `near` is the answer of a fit that does not hold, or 0: the search starts there if it is not far off.
    """

    name = "simulated"

    def __init__(self, step: CheckedStep, engine_of: EngineOf, start: int, near: int) -> None:
        self._step, self._engine_of, self._start, self._near = step, engine_of, start, near

    def probe(self, batch: int) -> Probe:
        """Record one batch, and replay it."""
        self._step.runs_at(batch)
        return self._engine_of(self._step.trace).probe(batch)

    def guess(self) -> int:
        """Where what the card has left beside the reserved peak comes to an end."""
        usable_bytes = self._engine_of(self._step.trace).card.usable_bytes
        if self._near and abs(self._room_bytes(self._near)) * self._near <= _NEAR * usable_bytes:
            return self._near
        return where_room_ends(self._room_bytes, self._start)

    def _room_bytes(self, batch: int) -> int:
        """What the card has left beside the reserved peak of a batch; below zero where it has less."""
        if not self._step.runs_at(batch):
            return self._room_bytes(batch + 1)
        engine = self._engine_of(self._step.trace)
        return engine.card.usable_bytes - engine.without_limit().probe(batch).peak_reserved_bytes
