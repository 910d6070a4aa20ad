"""What the peak is made of: every byte of the card, by category, module and line.

The moment explained is that of the most bytes allocated, the last one if there are several. Fragmentation is what lies
between the two peaks: of the bytes reserved, which must fit the card, and of those allocated. Where the batch does not
fit, the moment at which memory runs out is explained, with what is reserved then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

import numpy as np

from bench.memory.allocator.caching import AllocatorConfig, CachingAllocator, Replay, SegmentState
from bench.memory.allocator.history import Action, Entry
from bench.memory.explaining.sources import Owner, Phase, Source
from bench.memory.gpus import Card
from bench.memory.simulated import SimulatedEngine
from bench.memory.trace import Ints, Trace


class Category(str, Enum):
    """What bytes are there for; together they are the card, and without CONTEXT what is usable of it."""

    PARAMETERS = "parameters"
    BUFFERS = "buffers"  # constants of operators, and whatever else was made before the first step
    OPTIMIZER = "optimiser state"
    GRADIENTS = "gradients"
    BATCH = "batch"  # made in the step before its first module is called
    ACTIVATIONS = "saved activations"  # made by a forward pass, alive when its backward pass begins
    TEMPORARIES = "temporaries"
    WORKSPACE = "workspace"  # taken inside kernels
    ROUNDING = "rounding"  # blocks are larger than what was asked for
    FRAGMENTATION = "fragmentation"  # reserved beside all blocks
    FREE = "free"
    CONTEXT = "context"


TENSORS = tuple(Category)[: tuple(Category).index(Category.ROUNDING)]
"""Categories of single allocations."""

RESERVED = (*TENSORS, Category.ROUNDING, Category.FRAGMENTATION)
"""Categories that add up to what is reserved."""

_OWNED = {
    Owner.PARAMETER: Category.PARAMETERS,
    Owner.BUFFER: Category.BUFFERS,
    Owner.GRADIENT: Category.GRADIENTS,
    Owner.OPTIMIZER: Category.OPTIMIZER,
}


class Row(NamedTuple):
    """Blocks alive at the moment explained that have the same category, module, lines and operation."""

    category: Category
    module: str
    place: str
    op: str
    blocks: int
    size_bytes: int


@dataclass(frozen=True)
class Explanation:
    """One batch on one card.

    Attributes:
        card: The card.
        batch: Images.
        fits: Whether the steps run to their end.
        moment: Index in `history` of the moment explained; that of the failure where the batch does not fit.
        categories: Bytes then; they add up to `card.total_bytes`.
        rows: The tensors of these categories, largest first.
        peak_allocated_bytes: The most in blocks at any time.
        peak_reserved_bytes: The most in segments at any time.
        retries: Allocations that first had to release the cache.
        sources: By key.
        category_of: By key.
        history: What the allocator did.
        timeline: Bytes after each entry of `history`, shape [entries, categories of RESERVED].
        segments: What it held at the end.
    """

    card: Card
    batch: int
    fits: bool
    moment: int
    categories: dict[Category, int]
    rows: tuple[Row, ...]
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    retries: int
    sources: Sequence[Source]
    category_of: Sequence[Category]
    history: Sequence[Entry]
    timeline: Ints
    segments: Sequence[SegmentState]

    @property
    def source(self) -> Source:
        """Where the program is at the moment explained: what it allocated last, or failed to allocate."""
        return self.located()[self.moment]

    @property
    def failed_request_bytes(self) -> int | None:
        """What could not be allocated; None if everything could."""
        return None if self.fits else self.history[self.moment].size_bytes

    def located(self) -> list[Source]:
        """For every entry of the history: the source of what was allocated last."""
        located = []
        source = self.sources[0]
        for entry in self.history:
            if entry.key >= 0 and entry.action is not Action.FREE:
                source = self.sources[entry.key]
            located.append(source)
        return located

    def as_dict(self) -> dict[str, Any]:
        """As plain data, without history and timeline."""
        source = self.source
        return {
            "card": asdict(self.card) | {"usable_bytes": self.card.usable_bytes},
            "batch": self.batch,
            "fits": self.fits,
            "failed_request_bytes": self.failed_request_bytes,
            "moment": {
                "step": source.step,
                "phase": source.phase.value,
                "module": source.module,
                "line": source.place,
                "operation": source.op,
            },
            "peak_allocated_bytes": self.peak_allocated_bytes,
            "peak_reserved_bytes": self.peak_reserved_bytes,
            "retries": self.retries,
            "categories": {category.value: size for category, size in self.categories.items()},
            "rows": [row._asdict() for row in self.rows],
        }


class Replayed(Protocol):
    """A step on a card that can be replayed: a SimulatedEngine, or what was seen on a card."""

    @property
    def card(self) -> Card:
        """The card."""
        ...

    @property
    def config(self) -> AllocatorConfig:
        """Its allocator."""
        ...

    def replay(self, batch: int, allocator: CachingAllocator) -> tuple[Replay, int]:
        """Run the step at `batch` through an allocator; also how many convolutions fell back."""
        ...


def explain(engine: SimulatedEngine, batch: int, sources: Sequence[Source]) -> Explanation:
    """Replay a batch on the engine's card and take its peak apart.

    Args:
        engine: A trace on a card.
        batch: Images.
        sources: Of the trace at this batch, as `bench.memory.explaining.sources.locate` gives them.
    """
    return take_apart(engine, batch, sources, categories(engine.trace.of(batch), sources))


def take_apart(engine: Replayed, batch: int, sources: Sequence[Source], category_of: Sequence[Category]) -> Explanation:
    """Replay a batch on the engine's card and take its peak apart.

    Args:
        engine: A step on a card.
        batch: Images.
        sources: Of its allocations, by key.
        category_of: Of its allocations, by key.
    """
    card = engine.card
    history: list[Entry] = []
    allocator = CachingAllocator(card.usable_bytes, config=engine.config, observer=history.append)
    result, _ = engine.replay(batch, allocator)
    timeline = _timeline(history, category_of)
    allocated = _allocated(history)
    moment = len(history) - 1 - int(allocated[::-1].argmax()) if result.fits else len(history) - 1
    reserved_bytes = result.peak_reserved_bytes if result.fits else history[moment].reserved_bytes
    amounts = dict(zip(RESERVED, timeline[moment].tolist(), strict=True))
    amounts[Category.FRAGMENTATION] = reserved_bytes - history[moment].allocated_bytes
    free_bytes = card.usable_bytes - reserved_bytes
    return Explanation(
        card=card,
        batch=batch,
        fits=result.fits,
        moment=moment,
        categories=amounts | {Category.FREE: free_bytes, Category.CONTEXT: card.context_bytes},
        rows=_rows(history[: moment + 1], category_of, sources),
        peak_allocated_bytes=result.peak_allocated_bytes,
        peak_reserved_bytes=result.peak_reserved_bytes,
        retries=result.retries,
        sources=sources,
        category_of=category_of,
        history=history,
        timeline=timeline,
        segments=allocator.snapshot(),
    )


def categories(trace: Trace, sources: Sequence[Source]) -> list[Category]:
    """The category of every allocation of a recorded step, by key: its owner's, or else by phase and lifetime."""
    position: dict[int, int] = {}
    freed: dict[int, int] = {}
    for event, (key, is_free) in enumerate(zip(trace.key.tolist(), trace.is_free.tolist(), strict=True)):
        (freed if is_free else position)[key] = event
    in_kernel = set(trace.key[trace.is_workspace | trace.is_cublas | (trace.staged >= 0)].tolist())
    backward = [position[key] for key, source in enumerate(sources) if source.phase is Phase.BACKWARD]

    def outlives_forward(key: int) -> bool:
        following = bisect_right(backward, position[key])
        return following < len(backward) and freed.get(key, len(trace)) > backward[following]

    def category(key: int, source: Source) -> Category:
        if source.owner is not None:
            return _OWNED[source.owner]
        if key in in_kernel:
            return Category.WORKSPACE
        if source.phase is Phase.SETUP:
            return Category.BUFFERS
        if source.phase is Phase.INPUT:
            return Category.BATCH
        if source.phase in (Phase.FORWARD, Phase.RECOMPUTATION) and outlives_forward(key):
            return Category.ACTIVATIONS
        return Category.TEMPORARIES

    return [category(key, source) for key, source in enumerate(sources)]


def _timeline(history: Sequence[Entry], category_of: Sequence[Category]) -> Ints:
    """Bytes after every entry, shape [entries, categories of RESERVED]."""
    column = {category: place for place, category in enumerate(RESERVED)}
    change = np.zeros((len(history), len(RESERVED)), dtype=np.int64)
    for place, entry in enumerate(history):
        if entry.action is Action.ALLOC:
            change[place, column[category_of[entry.key]]] = entry.size_bytes
        elif entry.action is Action.FREE:
            change[place, column[category_of[entry.key]]] = -entry.size_bytes
    amounts = np.cumsum(change, axis=0)
    allocated = _allocated(history)
    reserved = np.array([entry.reserved_bytes for entry in history], dtype=np.int64)
    amounts[:, column[Category.ROUNDING]] = allocated - amounts.sum(axis=1)
    amounts[:, column[Category.FRAGMENTATION]] = reserved - allocated
    return amounts


def _allocated(history: Sequence[Entry]) -> Ints:
    return np.array([entry.allocated_bytes for entry in history], dtype=np.int64)


def _rows(history: Sequence[Entry], category_of: Sequence[Category], sources: Sequence[Source]) -> tuple[Row, ...]:
    """What is alive after these entries."""
    live: dict[int, int] = {}
    for entry in history:
        if entry.action is Action.ALLOC:
            live[entry.key] = entry.size_bytes
        elif entry.action is Action.FREE:
            del live[entry.key]
    blocks: Counter[tuple[Category, str, str, str]] = Counter()
    size_bytes: Counter[tuple[Category, str, str, str]] = Counter()
    for key, size in live.items():
        source = sources[key]
        what = category_of[key], source.module, source.place, source.short_op
        blocks[what] += 1
        size_bytes[what] += size
    return tuple(Row(*what, blocks[what], size) for what, size in size_bytes.most_common())
