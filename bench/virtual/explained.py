"""What the peak of PyTorch's own CUDA code is made of: sizes and order are the card's, names and lines a recording's.

Most allocations of a card are the recording's too (bench.virtual.comparison) and come from where that knows. What the
card alone has is taken inside the kernels of what runs then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.memory.allocator.caching import FREE, Act, AllocatorConfig, CachingAllocator, OutOfMemory, Replay, replay
from bench.memory.explaining.explain import Category, Explanation, categories, take_apart
from bench.memory.explaining.sources import Source
from bench.memory.gpus import Card
from bench.memory.simulated import SimulatedEngine
from bench.virtual.comparison import pairs
from bench.virtual.device import VirtualMeasurement
from bench.virtual.engine import VirtualEngine


class _InVain(NamedTuple):
    """An allocation that failed."""

    size_bytes: int


@dataclass(frozen=True)
class Seen:
    """A step as it went on a card, to be replayed there.

    `events` are (key, bytes) or (key, FREE), `failures` allocations that PyTorch went on without: how many events came
    before, and bytes, `emptyings` the same of each time that the step emptied the cache.
    """

    events: Sequence[tuple[int, int | Act]]
    failures: Sequence[tuple[int, int]]
    card: Card
    config: AllocatorConfig
    emptyings: Sequence[int] = ()

    def replay(self, batch: int, allocator: CachingAllocator) -> tuple[Replay, int]:
        """Run it through an allocator, which is asked for what failed too; also how often that was."""
        events: list[tuple[int, int | Act | _InVain]] = list(self.events)
        others: list[tuple[int, Act | _InVain]] = [(before, Act.EMPTY_CACHE) for before in self.emptyings]
        others += [(before, _InVain(size_bytes)) for before, size_bytes in self.failures]
        for before, other in sorted(others, key=lambda each: each[0], reverse=True):
            events.insert(before, (-1, other))

        def try_in_vain(key: int, asked: _InVain) -> None:
            try:
                allocator.malloc(key, asked.size_bytes)
            except OutOfMemory:
                return
            allocator.free(key)

        return replay(events, allocator, try_in_vain), len(self.failures)


def explain_on_card(
    engine: VirtualEngine, simulated: SimulatedEngine, batch: int, sources: Sequence[Source]
) -> Explanation:
    """Take the peak of a batch apart, as the virtual card has it.

    Args:
        engine: that runs the step.
        simulated: the recorded step, with that card's kernels.
        batch: images.
        sources: of the recording at this batch, as `bench.memory.explaining.sources.locate` gives them.

    Raises:
        ProbeFailedError: the step neither fits nor runs out of memory.
        TooDifferentError: the recording and the card have too little in common.
    """
    seen = engine.watch(batch)
    on_card, failures = _until_it_failed(seen)
    recorded = recorded_events(simulated, batch, fits=seen.fits)
    key_of = {place: recorded[other][0] for place, other in pairs(recorded, on_card).items()}
    recorded_category_of = categories(simulated.trace.of(batch), sources)
    source_of: list[Source] = []
    category_of: list[Category] = []
    for place, (_, size_bytes) in enumerate(on_card):
        if size_bytes is FREE:
            continue
        key = key_of.get(place)
        if key is None:
            before = source_of[-1] if source_of else sources[0]
            source_of.append(before._replace(owner=None))
            category_of.append(Category.WORKSPACE)
        else:
            source_of.append(sources[key])
            category_of.append(recorded_category_of[key])
    return take_apart(
        Seen(on_card, failures, engine.card, simulated.config, seen.emptyings), batch, source_of, category_of
    )


def recorded_events(simulated: SimulatedEngine, batch: int, *, fits: bool) -> list[tuple[int, int | Act]]:
    """What a recording does on a card where the step fits or does not; to its end, if that is not what it says."""
    agrees = simulated.probe(batch).fits == fits
    return (simulated if agrees else simulated.without_limit()).events(batch)


def _until_it_failed(
    seen: VirtualMeasurement,
) -> tuple[tuple[tuple[int, int | Act], ...], tuple[tuple[int, int], ...]]:
    """A card's events, of which the last is what could not be allocated where the step does not fit; other failures."""
    if seen.fits:
        return seen.events, seen.failures
    before, size_bytes = seen.failures[-1]
    events = seen.events[:before]
    allocations = sum(size is not FREE for _, size in events)
    return (*events, (allocations, size_bytes)), seen.failures[:-1]
