"""What reductions take, in a trace: allocations whose size depends on the batch and on the card.

A recording notes that an operation reduces, and how (bench.memory.reductions). Each such call has two allocations that
may be nothing, its staging buffer and its semaphores, and where partial results cannot be kept in the result itself a
third. How large they are is found where a trace is replayed: a batch and a card are known there. Where a card stands
for several, each is the largest on any of them. A call on 2 GiB or more runs in several kernels, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from bench.memory.allocator.caching import FREE, Act
from bench.memory.normalisation import Normalisation
from bench.memory.reductions import Launch, Multiprocessors, Reduction, Staging, staging


class Part(IntEnum):
    """Which of a call's allocations: for partial results of all kernels, a staging buffer, semaphores."""

    PARTIAL = 0
    STAGING = 1
    SEMAPHORES = 2


class Staged(NamedTuple):
    """One allocation of a call that reduces."""

    reduction: Reduction
    part: Part


class DropoutStates(NamedTuple):
    """The random states that cuDNN keeps to drop numbers between recurrent layers, for all threads of a card."""

    thread_bytes: int = 24

    def at(self, batch: int) -> DropoutStates:
        """The same at every batch."""
        return self

    def bytes_at(self, batch: int, cards: Sequence[Multiprocessors]) -> int:
        """Their bytes: the most on any of these cards, at least one."""
        return max(self.thread_bytes * card.number * card.threads for card in cards)

    def launches_at(self, batch: int, cards: Sequence[Multiprocessors]) -> tuple[Launch, ...]:
        """None: nothing is reduced."""
        return ()


class AffineStaged(NamedTuple):
    """An allocation of a call whose shape, strides and offset are affine in the batch: `base + slope * batch`."""

    base: Staged
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def at(self, batch: int) -> Staged:
        """The allocation at one batch size."""
        call = self.base.reduction
        reduction = call._replace(
            shape=_moved(call.shape, self.shape, batch),
            strides=_moved(call.strides, self.strides, batch),
            offset=call.offset + self.offset * batch,
        )
        return self.base._replace(reduction=reduction)

    def bytes_at(self, batch: int, cards: Sequence[Multiprocessors]) -> int:
        """Its bytes: the most on any of these cards, at least one, and of any of the call's kernels."""
        reduction, part = self.at(batch)
        return max(_bytes(staging(reduction, card), part) for card in cards)

    def launches_at(self, batch: int, cards: Sequence[Multiprocessors]) -> tuple[Launch, ...]:
        """What each of the call's kernels takes in turn, if there are several and one card is meant; else nothing."""
        reduction, part = self.at(batch)
        if part is not Part.STAGING or len(cards) != 1:
            return ()
        launches = staging(reduction, cards[0]).launches
        return launches if len(launches) > 1 else ()


def in_turn(
    events: Iterable[tuple[int, int | Act]], launches: Mapping[int, Sequence[Launch]]
) -> Iterator[tuple[int, int | Act]]:
    """The (key, bytes or act) events, where calls of several kernels take and give back for each.

    `launches` has them by the key of the call's staging buffer; the next key is that of its semaphores.
    """
    for key, size in events:
        if key in launches and size is not FREE:
            for staging_bytes, semaphore_bytes in filter(any, launches[key]):
                yield from ((key, staging_bytes), (key + 1, semaphore_bytes), (key + 1, FREE), (key, FREE))
        elif key not in launches and key - 1 not in launches:
            yield key, size


OnCard = Staged | DropoutStates | Normalisation
"""An allocation whose size depends on the card."""


class AffineOnCard(Protocol):
    """Such an allocation at every batch."""

    def at(self, batch: int) -> OnCard:
        """The allocation at one batch size."""
        ...

    def bytes_at(self, batch: int, cards: Sequence[Multiprocessors]) -> int:
        """Its bytes: the most on any of these cards, at least one."""
        ...

    def launches_at(self, batch: int, cards: Sequence[Multiprocessors]) -> tuple[Launch, ...]:
        """What several kernels of the call take in turn."""
        ...


def affine_staged(one: OnCard, other: OnCard, batch: int) -> AffineOnCard | None:
    """Through the same allocation at `batch` and `batch + 1`; None if they are of different calls."""
    if isinstance(one, Normalisation) and isinstance(other, Normalisation):
        return one.through(other, batch)
    if not (isinstance(one, Staged) and isinstance(other, Staged)):
        return one if isinstance(one, DropoutStates) and one == other else None
    first, second = one.reduction, other.reduction
    same = first._replace(shape=(), strides=(), offset=0) == second._replace(shape=(), strides=(), offset=0)
    if not same or one.part != other.part or len(first.shape) != len(second.shape):
        return None
    shape, strides = (_slope(*ends) for ends in ((first.shape, second.shape), (first.strides, second.strides)))
    offset = second.offset - first.offset
    fitted = AffineStaged(one, shape, strides, offset)
    return fitted._replace(base=fitted.at(-batch))


def constant_staged(staged: OnCard) -> AffineOnCard:
    """The same at every batch."""
    if not isinstance(staged, Staged):
        return staged
    rank = len(staged.reduction.shape)
    return AffineStaged(staged, (0,) * rank, (0,) * rank, 0)


def enlarged(numbers: Sequence[int], batch: int) -> tuple[int, ...]:
    """The numbers at the next batch, where each that `batch` divides is proportional to it."""
    return tuple([number if number % batch else number // batch * (batch + 1) for number in numbers])


def enlarged_staged(staged: OnCard, batch: int) -> OnCard:
    """The same allocation at the next batch, where its call's numbers are proportional to it as in `enlarged`."""
    if isinstance(staged, Normalisation):
        return staged._replace(pixels=enlarged([staged.pixels], batch)[0])
    if isinstance(staged, DropoutStates):
        return staged
    call = staged.reduction
    shape, strides = enlarged(call.shape, batch), enlarged(call.strides, batch)
    return staged._replace(
        reduction=call._replace(shape=shape, strides=strides, offset=enlarged([call.offset], batch)[0])
    )


def _bytes(taken: Staging, part: Part) -> int:
    if part is Part.PARTIAL:
        return taken.partial_bytes
    most = taken.most
    return most.staging_bytes if part is Part.STAGING else most.semaphore_bytes


def _moved(values: tuple[int, ...], slopes: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return tuple([value + slope * batch for value, slope in zip(values, slopes, strict=True)])


def _slope(values: tuple[int, ...], next_values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([after - before for before, after in zip(values, next_values, strict=True)])
