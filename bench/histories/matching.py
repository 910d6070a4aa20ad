"""What of a history the recording of its step has, or the step itself on the virtual card.

Both are sequences of blocks that come and go. The smallest difference of the two (bench.virtual.comparison) tells which
events they share, in order; what is left over is told by operation and line. Which steps the history is of is found,
not asked: how many, and whether the first of them is the one in which an optimiser makes its state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from bench.errors import UsageError
from bench.histories.on_card import entries_on_card, probe_of_steps
from bench.histories.reading import Happening, History
from bench.memory.allocator.blocks import round_size
from bench.memory.allocator.caching import CachingAllocator
from bench.memory.allocator.history import Action, Entry
from bench.memory.explaining.sources import locate
from bench.memory.gpus import ENDLESS_BYTES, Card
from bench.memory.recording.marks import MARKER_BYTES, marked
from bench.memory.recording.recorder import MakeStep, events_of, record
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.simulated import SimulatedEngine, WorkspaceSource
from bench.memory.trace import Trace, Workspace, constant
from bench.virtual.comparison import TooDifferentError, smallest_difference

RECORDING, VIRTUAL_CARD = "recording", "virtual card"
_STEPS = 2  # recorded: the first, and one like all others
_LEAST_SHARE = 0.5  # of the history's events; below it, the history is of something else
_DOUBTFUL_SHARE = 0.95  # below it, other batches are tried
_BEGINNING, _LEAST_BEGINNING = 0.02, 10  # of the steps' events, some of which a history of them must have
_CANDIDATES = 60  # sizes that other batches are read off


class Peaks(NamedTuple):
    """The most bytes at any time."""

    allocated_bytes: int
    reserved_bytes: int


class Left(NamedTuple):
    """Allocations that one side alone has, of one operation at one line: `where` is the side's name."""

    where: str
    op: str
    place: str
    size_bytes: int
    times: int


@dataclass(frozen=True)
class Match:
    """A history and the recording of its step, or the step on the virtual card: `other` says which.

    Attributes:
        real: The history's peaks.
        recorded: Those of the recorded steps, in a process that has done nothing else.
        events: How many allocations and frees the history has.
        recorded_events: How many the recorded steps have.
        matched: How many of them are in both, in order.
        steps: How many steps the history is of.
        from_the_first: Whether the first of them is the first of all.
        left: What one side alone allocates, most bytes first.
        other: "recording" or "virtual card".
    """

    real: Peaks
    recorded: Peaks
    events: int
    recorded_events: int
    matched: int
    steps: int
    from_the_first: bool
    left: tuple[Left, ...]
    other: str = RECORDING

    @property
    def share(self) -> float:
        """The matched part of the history's events."""
        return self.matched / self.events


class _Candidate(NamedTuple):
    """Recorded steps held against a history, and the places in each that the other has not."""

    steps: int
    from_the_first: bool
    entries: list[Entry]
    only_real: list[int]
    only_recorded: list[int]


def match(
    history: History,
    make_step: MakeStep,
    batch: int,
    card: Card,
    workspaces: WorkspaceSource | None = None,
    *,
    on_card: bool = False,
) -> Match:
    """Hold a history against the recording of a step, or against the step on the virtual card.

    Args:
        history: What a card did.
        make_step: The step, as bench.StepMemory takes it.
        batch: The batch that the card ran.
        card: Whose kernels run; those of a mere capacity are taken to need nothing.
        workspaces: What its convolutions take.
        on_card: Run the step on the virtual card. It must be one that can be sent to another process.

    Raises:
        NoVirtualCardError: there can be no such virtual card on this system.
        ProbeFailedError: the step fails on the virtual card.
        UsageError: the history is not of this step at this batch, does not have its beginning, or is of another torch.
        NotRecordableError: the step cannot be recorded.
    """
    if history.torch and _release(history.torch) != _release(torch.__version__):
        raise UsageError(
            f"the history is of torch {history.torch}, the recording would be of {torch.__version__}: steps allocate "
            "differently with another release"
        )
    happenings = history.events()
    if not happenings:
        raise UsageError("the history has no allocation and no free")
    real = [_block(happening) for happening in happenings]
    with_marks = marked(make_step)
    trace = None if on_card else constant(events_of(with_marks, batch, _STEPS))
    steps = _by_step(
        entries_on_card(make_step, batch, card, _STEPS) if trace is None else _recorded(trace, batch, card, workspaces)
    )
    found = list(_candidates(real, steps))
    matched = max((len(real) - len(each.only_real) for each in found), default=0)
    if matched < _DOUBTFUL_SHARE * len(real):
        likely = _likely_batch(real, make_step, batch)
        if likely not in (None, batch):
            raise UsageError(
                f"the history is of batch {likely}, the step was recorded at {batch}: give --batch {likely}"
            )
    if matched < _LEAST_SHARE * len(real):
        other = VIRTUAL_CARD if on_card else RECORDING
        raise UsageError(f"the history is not of this step: of its {len(real):,} events the {other} has {matched:,}")
    best = min(found, key=lambda each: len(each.only_real) + len(each.only_recorded))
    beginning = range(max(_LEAST_BEGINNING, int(_BEGINNING * len(best.entries))))
    if set(beginning) <= set(best.only_recorded) and best.only_real[: len(beginning)] != list(beginning):
        raise UsageError(
            "the history does not have the beginning of the step: record from before the step on, with "
            "max_entries large enough"
        )
    left = Counter(_left_in_history(happenings, best.only_real))
    if trace is None:
        left.update((VIRTUAL_CARD, "", "", entry.size_bytes) for entry in _allocations(best))
    else:
        left.update(_left_in_recording(with_marks, trace, batch, best))
    told = [Left(*what, times) for what, times in left.items()]
    return Match(
        real=Peaks(*history.peaks()),
        recorded=_peaks_on_card(make_step, batch, card, best) if on_card else _peaks(best),
        events=len(real),
        recorded_events=len(best.entries),
        matched=len(real) - len(best.only_real),
        steps=best.steps,
        from_the_first=best.from_the_first,
        left=tuple(sorted(told, key=lambda each: -each.size_bytes * each.times)),
        other=VIRTUAL_CARD if on_card else RECORDING,
    )


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


def _block(event: Happening | Entry) -> int:
    """The size of the block that an event allocates, below 0 where it frees it."""
    size = round_size(event.size_bytes)
    return -size if event.action in ("free", Action.FREE) else size


def _recorded(trace: Trace, batch: int, card: Card, workspaces: WorkspaceSource | None) -> list[Entry]:
    """What the allocator does for the recorded step."""
    engine = SimulatedEngine(trace, card, Workspace.LOW, workspaces=workspaces)
    history: list[Entry] = []
    engine.replay(batch, CachingAllocator(ENDLESS_BYTES, config=engine.config, observer=history.append))
    return history


def _by_step(history: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Of what the allocator does, the first step and the second."""
    steps: list[list[Entry]] = [[]]
    marker = -1
    for entry in history:
        if entry.action is Action.ALLOC and entry.size_bytes == MARKER_BYTES:
            marker = entry.key
            steps.append([])
        elif entry.action in (Action.ALLOC, Action.FREE) and entry.key != marker:
            steps[-1].append(entry)
    _, first, second = steps
    return first, second


def _candidates(real: list[int], steps: tuple[list[Entry], list[Entry]]) -> Iterator[_Candidate]:
    """As many recorded steps as the history is long, with the very first of them and without."""
    first, second = steps
    number = max(1, round(len(real) / max(1, len(second))))
    for from_the_first in (True, False):
        entries = [*(first if from_the_first else second), *(second * (number - 1))]
        try:
            yield _Candidate(
                number, from_the_first, entries, *smallest_difference(real, [_block(entry) for entry in entries])
            )
        except TooDifferentError:
            continue


def _likely_batch(real: list[int], make_step: MakeStep, batch: int) -> int | None:
    """The batch at which the step's blocks are most like the history's; None where that cannot be told."""
    try:
        trace = record(make_step)
    except NotRecordableError:
        return None
    sizes = Counter(size for size in real if size > 0)
    affine = {(int(base), int(slope)) for base, slope in zip(trace.base, trace.slope, strict=True) if slope > 0}
    candidates = Counter([batch] * _CANDIDATES)
    for base, slope in sorted(affine, key=lambda each: -each[1])[:_CANDIDATES]:
        for size in sorted(sizes, reverse=True)[:_CANDIDATES]:
            found = (size - base) // slope
            if found >= 1 and round_size(base + slope * found) == size:
                candidates[found] += 1

    def shared(candidate: int) -> int:
        blocks = Counter(round_size(size) for size in trace.sizes(candidate).tolist() if size > 0)
        return (blocks & sizes).total()

    likely = max(
        (found for found, _ in candidates.most_common(10)),
        key=lambda candidate: (shared(candidate), candidate == batch),
    )
    return likely if shared(likely) > _LEAST_SHARE * sizes.total() else None


def _left_in_history(happenings: Sequence[Happening], places: Iterable[int]) -> Iterator[tuple[str, str, str, int]]:
    for place in places:
        event = happenings[place]
        if event.action == "alloc":
            yield "history", event.op, event.place, event.size_bytes


def _peaks(found: _Candidate) -> Peaks:
    return Peaks(
        max(entry.allocated_bytes for entry in found.entries), max(entry.reserved_bytes for entry in found.entries)
    )


def _peaks_on_card(make_step: MakeStep, batch: int, card: Card, found: _Candidate) -> Peaks:
    probe = probe_of_steps(make_step, batch, card, found.steps, 0 if found.from_the_first else 1)
    return Peaks(probe.peak_allocated_bytes, probe.peak_reserved_bytes)


def _allocations(found: _Candidate) -> list[Entry]:
    """Those that the recorded steps alone have."""
    return [entry for entry in map(found.entries.__getitem__, found.only_recorded) if entry.action is Action.ALLOC]


def _left_in_recording(
    make_step: MakeStep, trace: Trace, batch: int, found: _Candidate
) -> Iterator[tuple[str, str, str, int]]:
    left = _allocations(found)
    if not left:
        return
    try:
        sources = locate(make_step, trace, batch, _STEPS)
    except NotRecordableError:  # watched, it allocates something else: told without lines
        ops = dict(zip(trace.key.tolist(), trace.op.tolist(), strict=True))
        yield from ((RECORDING, trace.op_names[ops[entry.key]], "", entry.size_bytes) for entry in left)
        return
    for entry in left:
        source = sources[entry.key]
        yield RECORDING, source.short_op, source.place, entry.size_bytes
