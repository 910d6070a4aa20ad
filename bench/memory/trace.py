"""A trace: every allocation and free of a training step, for every batch size at once.

The size of each allocation is a function of the batch, `base + slope * batch + curve * batch * batch`, so one trace
answers every batch size and every card by replay (bench.memory.simulated).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from bench.memory.allocator.caching import FREE, Act
from bench.memory.convolution import Convolution
from bench.memory.convolution import Ints as Numbers
from bench.memory.gpus import Card
from bench.memory.reductions import Multiprocessors
from bench.memory.staging import (
    AffineOnCard,
    OnCard,
    affine_staged,
    constant_staged,
    enlarged,
    enlarged_staged,
    in_turn,
)

ROUNDING_BYTES = 512  # every block of PyTorch's allocator is a multiple of this

EMPTYING = "torch.cuda.empty_cache"
"""The operation of an event that empties the allocator's cache: an allocation of nothing, never freed."""

CAPPING, CONFIGURING = "torch.cuda.set_per_process_memory_fraction", "torch.cuda.memory._set_allocator_settings"
"""The operations of events that tell the allocator how much it may take, and its options: `CAPPING 0.5`.

Allocations of nothing, never freed, whatever their moment: what they tell holds for the whole step.
"""

Ints = npt.NDArray[np.int64]
Item = TypeVar("Item")


class Workspace(Enum):
    """Which bound of the temporaries inside kernels (bench.memory.recording.kernels) a replay uses."""

    LOW = "low"  # kernels take nothing beside their outputs
    HIGH = "high"  # kernels take as much as the rules allow


class Event(NamedTuple):
    """One event of a recording at one batch size.

    It allocates `size_bytes` under `key`, or frees `key` where it `is_free`; its size is 0 then. `workspace` marks a
    temporary inside a kernel, which exists in the HIGH bound only; `call` is the convolution that takes it. `op` is the
    operation that allocated, `source` where in the program that was, if the recording was asked to note it. `is_cublas`
    marks a workspace that cuBLAS keeps, `in_backward` a call in autograd's thread, `staged` what a reduction takes,
    whose `size_bytes` are 0 here.
    """

    key: int
    size_bytes: int
    workspace: bool
    op: str
    call: Convolution | None = None
    source: Any = None
    is_cublas: bool = False
    in_backward: bool = False
    staged: OnCard | None = None
    is_free: bool = False


def freed(key: int) -> Event:
    """The event that frees `key`."""
    return tuple.__new__(Event, (key, 0, False, "free", None, None, False, False, None, True))


class Images(NamedTuple):
    """A convolution of a trace, whose shapes and strides are affine in the batch.

    `base` is the call at batch 0 and `more` what each sample adds to its shapes and strides, by the names of those that
    it adds to: the number of images mostly, of a gradient's gradient others. `in_backward` tells the thread that calls
    it: PyTorch remembers how to run a convolution for each thread apart.
    """

    base: Convolution
    more: tuple[tuple[str, Numbers], ...]
    in_backward: bool

    def at(self, batch: int) -> Convolution:
        """The call at one batch size."""
        sums: dict[str, Any] = {name: _moved(getattr(self.base, name), more, batch) for name, more in self.more}
        return self.base._replace(**sums)

    @classmethod
    def through(cls, call: Convolution, next_call: Convolution, in_backward: bool, batch: int) -> Images | None:
        """Through a call at `batch` and at `batch + 1`; None if they are of different kinds."""
        pairs = [(name, getattr(call, name), getattr(next_call, name)) for name in _AFFINE]
        more = {name: _moved(other, one, -1) for name, one, other in pairs if one != other}
        before: dict[str, Any] = {name: _moved(getattr(call, name), each, -batch) for name, each in more.items()}
        found = cls(call._replace(**before), tuple(more.items()), in_backward)
        return found if found.at(batch + 1) == next_call else None


_AFFINE = tuple(f"{tensor}_{what}" for tensor in ("input", "weight", "output") for what in ("shape", "stride"))


def _moved(numbers: Numbers, more: Numbers, times: int) -> Numbers:
    return tuple(number + each * times for number, each in zip(numbers, more, strict=True))


class Call(NamedTuple):
    """In place of an event's bytes: the workspace of one of a trace's convolutions, whose size is found at replay."""

    number: int


@dataclass(frozen=True)
class Trace:
    """The events of a step with sizes affine, or quadratic, in the batch.

    All arrays have shape [events]: `key` names the allocation, `base`, `slope` and `curve` give its size in bytes
    (0 on a free), `is_free` and `is_workspace` say what the event is, `op` indexes `op_names`, `call` indexes
    `convolutions` (-1 where the event is no convolution's workspace, or of one whose shapes are not understood).
    `is_cublas` marks the workspaces that cuBLAS keeps, whose size depends on the card; `staged` indexes `reductions`,
    what reductions take (-1 where the event is none of theirs): the most on any of `cards`, nothing without cards.
    `exceptions` holds the traces of single batch sizes whose event sequence differs from all the others'
    (batch 1, where a transposed view can already be contiguous), `impossible` those at which the step fails, with why.
    """

    key: Ints
    base: Ints
    slope: Ints
    curve: Ints
    is_free: npt.NDArray[np.bool_]
    is_workspace: npt.NDArray[np.bool_]
    op: Ints
    op_names: tuple[str, ...]
    call: Ints
    convolutions: tuple[Images, ...]
    is_cublas: npt.NDArray[np.bool_]
    staged: Ints
    reductions: tuple[AffineOnCard, ...]
    cards: tuple[Multiprocessors, ...] = ()
    exceptions: dict[int, Trace] = field(default_factory=dict)
    impossible: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of events."""
        return len(self.key)

    def of(self, batch: int) -> Trace:
        """The trace that describes this batch size: itself, or one of its exceptions."""
        return self.exceptions.get(batch, self)

    @property
    def memory_fraction(self) -> float:
        """How much of a card the program lets the allocator take: what it says last."""
        return float(["1", *self._told(CAPPING)][-1])

    @property
    def allocator_options(self) -> str:
        """The options that the program gives the allocator, in PyTorch's syntax."""
        return ",".join(self._told(CONFIGURING))

    def _told(self, operation: str) -> list[str]:
        """What an operation that tells the allocator something is given, each time."""
        if not any(name.startswith(operation) for name in self.op_names):
            return []
        return told((self.op_names[op] for op in self.op[~self.is_free].tolist()), operation)

    def with_cublas_workspace(self, size_bytes: int) -> Trace:
        """The trace on a card where each of cuBLAS's workspaces takes so many bytes."""
        exceptions = {batch: trace.with_cublas_workspace(size_bytes) for batch, trace in self.exceptions.items()}
        return replace(self, base=np.where(self.is_cublas, size_bytes, self.base), exceptions=exceptions)

    def with_staging_of(self, cards: Iterable[Multiprocessors]) -> Trace:
        """The trace where reductions take the most that they take on any of these cards."""
        known = tuple(dict.fromkeys(cards))
        exceptions = {batch: trace.with_staging_of(known) for batch, trace in self.exceptions.items()}
        return replace(self, cards=known, exceptions=exceptions)

    def on(self, card: Card) -> Trace:
        """The trace with what a card's own kernels take; of a capacity, reductions are taken to need nothing."""
        multiprocessors = card.multiprocessors_and_threads
        known = [Multiprocessors(*multiprocessors)] if multiprocessors else []
        return self.with_cublas_workspace(card.cublas_workspace_bytes).with_staging_of(known)

    def sizes(self, batch: int) -> Ints:
        """Bytes of every allocation at `batch`, shape [events]; 0 where an event frees."""
        trace = self.of(batch)
        size = trace.base + trace.slope * batch
        if trace.curve.any():  # which never is where `batch` is searched for beyond what its square can be
            size += trace.curve * batch**2
        if trace.cards and trace.reductions:
            taken = np.array([each.bytes_at(batch, trace.cards) for each in trace.reductions], dtype=np.int64)
            size = np.where(trace.staged >= 0, taken[trace.staged], size)
        return size

    def at(self, batch: int, workspace: Workspace = Workspace.HIGH) -> list[tuple[int, int | Act]]:
        """The (key, bytes or act) events at one batch size, ready for bench.memory.allocator.caching.replay."""
        trace = self.of(batch)
        is_there = ~trace.is_workspace if workspace is Workspace.LOW else np.ones_like(trace.is_free)
        return trace._events(batch, is_there)

    def with_calls(self, batch: int) -> tuple[list[tuple[int, int | Act | Call]], list[Convolution]]:
        """The events at one batch size, with convolutions named instead of bounded.

        `Call(i)` stands for the bytes of the workspace of the second list's item i; other temporaries have their HIGH
        bound.
        """
        trace = self.of(batch)
        named = np.flatnonzero(trace.call >= 0)
        call_of = dict(zip(trace.key[named].tolist(), map(Call, trace.call[named].tolist()), strict=True))
        events: list[tuple[int, int | Act | Call]] = [
            (key, size if size is FREE else call_of.get(key, size))
            for key, size in trace._events(batch, np.ones_like(trace.is_free))
        ]
        return events, [images.at(batch) for images in trace.convolutions]

    def _events(self, batch: int, is_there: npt.NDArray[np.bool_]) -> list[tuple[int, int | Act]]:
        """The (key, bytes or act) of the events that are there, without the reductions that take nothing."""
        sizes = self.sizes(batch)
        if self.reductions:
            nothing = np.zeros(int(self.key.max(initial=0)) + 1, dtype=np.bool_)
            nothing[self.key[(self.staged >= 0) & (sizes == 0)]] = True
            is_there = is_there & ~nothing[self.key]
        told = sizes.astype(object)
        told[self.is_free] = FREE
        if EMPTYING in self.op_names:
            told[self.op == self.op_names.index(EMPTYING)] = Act.EMPTY_CACHE
        events: list[tuple[int, int | Act]] = list(
            zip(self.key[is_there].tolist(), told[is_there].tolist(), strict=True)
        )
        launches = [each.launches_at(batch, self.cards) for each in self.reductions]
        if any(launches):
            where = np.flatnonzero(self.staged >= 0)
            taken = zip(self.key[where].tolist(), self.staged[where].tolist(), strict=True)
            events = list(in_turn(events, {key: launches[staged] for key, staged in taken if launches[staged]}))
        return events

    def live_bytes(self, batch: int, workspace: Workspace = Workspace.HIGH) -> Ints:
        """Bytes in live blocks after every event, rounded as PyTorch rounds them; shape [events]."""
        trace = self.of(batch)
        size = trace.sizes(batch)
        return np.cumsum(trace._changes(-(-size // ROUNDING_BYTES) * ROUNDING_BYTES, workspace))

    def peak_live_bytes(self, batch: int, workspace: Workspace = Workspace.HIGH) -> int:
        """The most bytes alive at one time: a lower bound of what any allocator must reserve."""
        return int(self.live_bytes(batch, workspace).max(initial=0))

    def peak_bytes_per_image(self, batch: int, workspace: Workspace = Workspace.HIGH) -> int:
        """What one more image adds at the moment of the peak, in bytes, before rounding."""
        trace = self.of(batch)
        peak = int(trace.live_bytes(batch, workspace).argmax())
        more = trace.slope + trace.curve * ((batch + 1) ** 2 - batch**2)
        return int(np.cumsum(trace._changes(more, workspace))[peak])

    @property
    def grows(self) -> bool:
        """Whether anything is larger for a larger batch."""
        return bool(self.slope.any() or self.curve.any())

    def _changes(self, size: Ints, workspace: Workspace) -> Ints:
        """By how much each event changes what is alive, where each allocation has `size`."""
        if workspace is Workspace.LOW:
            size = np.where(self.is_workspace, 0, size)
        of_key = np.zeros(int(self.key.max(initial=0)) + 1, dtype=np.int64)
        of_key[self.key[~self.is_free]] = size[~self.is_free]  # keys are never used twice
        return np.where(self.is_free, -of_key[self.key], size)


def told(operations: Iterable[str], operation: str) -> list[str]:
    """What an operation that tells the allocator something is given, each time that it is among `operations`."""
    return [each.removeprefix(f"{operation} ") for each in operations if each.startswith(f"{operation} ")]


def same_sequence(one: list[Event], other: list[Event]) -> int | None:
    """Index of the first event at which two recordings differ in anything but sizes; None if none does."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if (a.key, a.is_free, a.workspace, a.op) != (b.key, b.is_free, b.workspace, b.op):
            return index
    return None if len(one) == len(other) else min(len(one), len(other))


def agrees(trace: Trace, batch: int, events: list[Event]) -> bool:
    """Whether the trace begins with exactly these events at `batch`."""
    told, count = trace.of(batch), len(events)
    calls, reductions = [images.at(batch) for images in told.convolutions], [each.at(batch) for each in told.reductions]
    return (
        told.key[:count].tolist() == [event.key for event in events]
        and told.is_free[:count].tolist() == [event.is_free for event in events]
        and told.sizes(batch)[:count].tolist() == [event.size_bytes for event in events]
        and told.is_workspace[:count].tolist() == [event.workspace for event in events]
        and [told.op_names[op] for op in told.op[:count].tolist()] == [event.op for event in events]
        and all(calls[told.call[place]] == events[place].call for place in np.flatnonzero(told.call[:count] >= 0))
        and [reductions[each] if each >= 0 else None for each in told.staged[:count].tolist()]
        == [event.staged for event in events]
    )


def fitted(batch: int, recordings: Sequence[list[Event]]) -> Trace:
    """Fit the trace through recordings at `batch` and the next one, or the next two.

    They have the same sequence of events. Two make it affine in the batch, three quadratic; convolutions and reductions
    are affine, so that only sizes are fitted through the third.
    """
    events, next_events = recordings[:2]
    sizes = [_sizes(each) for each in recordings]
    curve = (sizes[2] - 2 * sizes[1] + sizes[0]) // 2 if len(sizes) > 2 else np.zeros_like(sizes[0])
    slope = sizes[1] - sizes[0] - curve * (2 * batch + 1)
    base = sizes[0] - slope * batch - curve * batch**2
    pairs = list(zip(events, next_events, strict=True))
    images = _once_each(
        lambda one, other, in_backward: Images.through(one, other, in_backward, batch),
        [(event.call, next_event.call, event.in_backward) for event, next_event in pairs],
    )
    staged = _once_each(
        lambda one, other: affine_staged(one, other, batch),
        [(event.staged, next_event.staged) for event, next_event in pairs],
    )
    return _trace(events, (base, slope, curve), images, staged)


def proportional(batch: int, events: list[Event]) -> Trace:
    """The trace of one recording at a prime batch, if whatever the prime divides is proportional to the batch.

    That is a supposition: other batches have to show it (bench.memory.supposed).
    """
    size = _sizes(events)
    slope = np.where(size % batch == 0, size // batch, 0)
    images = _once_each(
        lambda call, in_backward: Images.through(call, _enlarged_call(call, batch), in_backward, batch),
        [(event.call, event.in_backward) for event in events],
    )
    staged = _once_each(
        lambda one, same: affine_staged(one, enlarged_staged(same, batch), batch),
        [(event.staged, event.staged) for event in events],
    )
    return _trace(events, (size - slope * batch, slope, np.zeros_like(size)), images, staged)


def _enlarged_call(call: Convolution, batch: int) -> Convolution:
    """The call at the next batch, where shapes and strides are proportional to it."""
    numbers: dict[str, Any] = {name: enlarged(getattr(call, name), batch) for name in _AFFINE}
    return call._replace(**numbers)


def _once_each(function: Callable[..., Item | None], calls: Iterable[tuple[Any, ...]]) -> list[Item | None]:
    """`function(*arguments)` of each call, None where the first or second is; worked out once for the same objects."""
    known: dict[tuple[int, ...], Item | None] = {}
    results: list[Item | None] = []
    for arguments in calls:
        if arguments[0] is None or arguments[1] is None:
            results.append(None)
            continue
        which = tuple(map(id, arguments))
        if which not in known:
            known[which] = function(*arguments)
        results.append(known[which])
    return results


def constant(events: list[Event]) -> Trace:
    """The trace of one recording, for its own batch size only."""
    size = _sizes(events)
    images = [Images(event.call, (), event.in_backward) if event.call else None for event in events]
    staged = [constant_staged(event.staged) if event.staged else None for event in events]
    nothing = np.zeros_like(size)
    return _trace(events, (size, nothing, nothing), images, staged)


def _sizes(events: list[Event]) -> Ints:
    return np.array([event.size_bytes for event in events], dtype=np.int64)


def _trace(
    events: list[Event],
    coefficients: tuple[Ints, Ints, Ints],
    images: list[Images | None],
    staged: list[AffineOnCard | None],
) -> Trace:
    base, slope, curve = coefficients
    op, op_names = _numbered([event.op for event in events])
    calls, convolutions = _placed(images)
    reductions_of, reductions = _placed(staged)
    return Trace(
        key=np.array([event.key for event in events], dtype=np.int64),
        base=base,
        slope=slope,
        curve=curve,
        is_free=np.array([event.is_free for event in events], dtype=np.bool_),
        is_workspace=np.array([event.workspace for event in events], dtype=np.bool_),
        op=op,
        op_names=op_names,
        call=calls,
        convolutions=convolutions,
        is_cublas=np.array([event.is_cublas for event in events], dtype=np.bool_),
        staged=reductions_of,
        reductions=reductions,
    )


def _placed(items: list[Item | None]) -> tuple[Ints, tuple[Item, ...]]:
    """As _numbered, with -1 where there is no item."""
    found, different = _numbered([item for item in items if item is not None])
    numbers = np.full(len(items), -1, dtype=np.int64)
    numbers[[item is not None for item in items]] = found
    return numbers, different


def _numbered(items: list[Item]) -> tuple[Ints, tuple[Item, ...]]:
    """Each item's number, and the different items in the order of their numbers."""
    numbers: dict[Item, int] = {}
    return np.array([numbers.setdefault(item, len(numbers)) for item in items], dtype=np.int64), tuple(numbers)
