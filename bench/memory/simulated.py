"""The simulated engine: does a batch fit a card? Answered by replaying a trace through PyTorch's allocator."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from bench.memory.allocator.caching import FREE, Act, AllocatorConfig, CachingAllocator, OutOfMemory, Replay, replay
from bench.memory.allocator.history import Action, Entry
from bench.memory.convolution import Convolution, most_workspace_bytes
from bench.memory.gpus import Card
from bench.memory.reductions import Multiprocessors
from bench.memory.search import Probe, last_of, where_room_ends
from bench.memory.trace import Call, Trace, Workspace


class WorkspaceSource(Protocol):
    """What knows cuDNN's workspaces, exactly or as a bound."""

    cudnn_version: str
    is_exact: bool

    @property
    def cards(self) -> Sequence[Card]:
        """The cards whose kernels are meant: one, or all that a capacity stands for."""
        ...

    def candidates(self, call: Convolution) -> Sequence[int] | None:
        """Workspace bytes of the configurations that PyTorch tries, in its order; None if this call is not known."""
        ...


class SimulatedEngine:
    """One trace on one card.

    `workspaces` knows what convolutions take. Where it is None or does not know a call, the bound `workspace` of the
    temporaries inside kernels stands in: nothing, or `most_workspace_bytes`. Its cards are those whose reductions take
    their staging; without it, the card itself. `config` says which PyTorch
    release's allocator, with which options, by default the installed one's without any. What the program itself tells
    the allocator holds over both.
    """

    name = "simulated"

    def __init__(
        self,
        trace: Trace,
        card: Card,
        workspace: Workspace = Workspace.HIGH,
        config: AllocatorConfig | None = None,
        workspaces: WorkspaceSource | None = None,
    ) -> None:
        kernels_of = workspaces.cards if workspaces else [card]
        known = (each.multiprocessors_and_threads for each in kernels_of)
        staging_of = [Multiprocessors(*each) for each in known if each]
        self.trace = trace.with_cublas_workspace(card.cublas_workspace_bytes).with_staging_of(staging_of)
        self.card = replace(card, memory_fraction=min(card.memory_fraction, trace.memory_fraction))
        self.workspace = workspace
        self.config = (config or AllocatorConfig(torch_version=installed_release())).updated(trace.allocator_options)
        self.workspaces = workspaces

    def without_limit(self) -> SimulatedEngine:
        """The same kernels on a card whose memory never ends."""
        unlimited = copy.copy(self)
        unlimited.card = self.card.without_limit()
        return unlimited

    def probe(self, batch: int) -> Probe:
        """Replay every allocation of the step at `batch` on the card, unless its live bytes alone exceed it."""
        if batch in self.trace.impossible or not self._within(batch):
            return Probe(batch, fits=False, peak_allocated_bytes=0, peak_reserved_bytes=0, retries=0)
        result, fallbacks = self.replay(batch, CachingAllocator(self.card.usable_bytes, config=self.config))
        return Probe(
            batch=batch,
            fits=result.fits,
            peak_allocated_bytes=result.peak_allocated_bytes,
            peak_reserved_bytes=result.peak_reserved_bytes,
            retries=result.retries,
            fallbacks=fallbacks,
        )

    def replay(self, batch: int, allocator: CachingAllocator) -> tuple[Replay, int]:
        """Run the step at `batch` through an allocator; also how many convolutions fell back."""
        if self.workspaces is None and self.workspace is Workspace.LOW:
            return replay(self.trace.at(batch, self.workspace), allocator), 0
        events, calls = self.trace.with_calls(batch)
        convolutions = Convolutions(allocator, calls, self.workspaces)
        return replay(events, allocator, convolutions.malloc), convolutions.fallbacks

    def events(self, batch: int) -> list[tuple[int, int | Act]]:
        """What the card's allocator does at `batch`, up to where memory runs out: (key, bytes) or (key, FREE).

        The workspaces are those that convolutions come to run with.
        """
        history: list[Entry] = []
        allocator = CachingAllocator(self.card.usable_bytes, config=self.config, observer=history.append)
        self.replay(batch, allocator)
        return [
            (entry.key, FREE if entry.action is Action.FREE else entry.size_bytes)
            for entry in history
            if entry.action in (Action.ALLOC, Action.FREE)
        ]

    def knows_workspaces(self, batch: int) -> bool:
        """Whether no convolution at `batch` needs a bound; true also where no replay is needed to tell."""
        if self.workspaces is None or not self.workspaces.is_exact:
            return False
        calls = (images.at(batch) for images in self.trace.of(batch).convolutions)
        return not self._within(batch) or all(map(self.workspaces.candidates, calls))

    def guess(self) -> int:
        """The largest batch whose live bytes alone stay within the card: no larger one can fit.

        Live bytes are one sum per event, so this costs no replay. 0 if not even batch 1 can fit, LARGEST_BATCH if
        nothing in the step grows.
        """
        room_bytes = functools.cache(self._room_bytes)
        return last_of(lambda batch: room_bytes(batch) >= 0, where_room_ends(room_bytes, 2))

    def _within(self, batch: int) -> bool:
        """Whether the bytes that are alive at one time, in blocks of their own size, stay within the card."""
        return self._room_bytes(batch) >= 0

    def _room_bytes(self, batch: int) -> int:
        """What the card has left beside the bytes that are alive at one time; below zero where it has less."""
        bound = Workspace.LOW if self.workspaces else self.workspace
        return self.card.usable_bytes - self.trace.peak_live_bytes(batch, bound)


def installed_release() -> tuple[int, int]:
    """PyTorch's release: (2, 13)."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


class TypicalWorkspaces:
    """Every convolution takes as much as its input and output together: near what is usual, and no bound.

    The same on every card and for every version of cuDNN, so that compositions of memory can be compared.
    """

    cudnn_version = "none"
    is_exact = False
    cards: Sequence[Card] = ()

    def candidates(self, call: Convolution) -> Sequence[int]:
        """The one size, in bytes."""
        element_bytes = torch.empty((), dtype=getattr(torch, call.dtype), device="meta").element_size()
        return [element_bytes * (math.prod(call.input_shape) + math.prod(call.output_shape))]


class Convolutions:
    """Workspaces of a step's convolutions, tried as PyTorch tries them (aten/native/cudnn/Conv_v8.cpp).

    The first configuration whose workspace can be allocated runs, and is remembered for that call in that thread: it is
    tried first the next time. One that runs out of memory is passed over in silence: `fallbacks` counts them.
    """

    def __init__(
        self, allocator: CachingAllocator, calls: Sequence[Convolution], source: WorkspaceSource | None
    ) -> None:
        self.fallbacks = 0
        self._allocator = allocator
        self._candidates = [_candidates(source, call) for call in calls]
        self._remembered: dict[int, int] = {}

    def malloc(self, key: int, call: Call) -> None:
        """Allocate the workspace of a call under `key`.

        Raises:
            OutOfMemory: no configuration's workspace fits.
        """
        number = call.number
        sizes = self._candidates[number]
        remembered = self._remembered.get(number)
        order = [*([] if remembered is None else [remembered]), *range(len(sizes))]
        for place in order:
            try:
                self._allocator.malloc(key, sizes[place])
            except OutOfMemory as error:
                self.fallbacks += 1
                last = error
            else:
                self._remembered[number] = place
                return
        raise last


def _candidates(source: WorkspaceSource | None, call: Convolution) -> Sequence[int]:
    return (source and source.candidates(call)) or [most_workspace_bytes(call)]
