"""What the peak of PyTorch's own CUDA code is made of: sizes and order are the card's, names and lines a recording's.

Most allocations of a card are the recording's too (bench.virtual.comparison) and come from where that knows. What the
card alone has is taken inside the kernels of what runs then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.memory.allocator.caching import FREE, AllocatorConfig, CachingAllocator, OutOfMemory, Replay, replay
from bench.memory.explaining.explain import Explanation, explain
from bench.memory.explaining.sources import Source
from bench.memory.gpus import Card
from bench.memory.simulated import SimulatedEngine
from bench.memory.trace import Event, Trace, constant
from bench.virtual.comparison import keyed, pairs
from bench.virtual.device import VirtualMeasurement
from bench.virtual.engine import VirtualEngine


@dataclass(frozen=True)
class Seen:
    """A step as it went on a card, to be replayed there.

    `failures` are allocations that PyTorch went on without: how many events came before, and bytes.
    """

    trace: Trace
    card: Card
    config: AllocatorConfig
    failures: tuple[tuple[int, int], ...]

    def replay(self, batch: int, allocator: CachingAllocator) -> tuple[Replay, int]:
        """Run it through an allocator, which is asked for what failed too; also how often that was."""
        events = self.trace.at(batch)
        for before, size_bytes in reversed(self.failures):
            events.insert(before, (-1, FREE - size_bytes))

        def try_in_vain(key: int, size_bytes: int) -> None:
            try:
                allocator.malloc(key, FREE - size_bytes)
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
    recorded = (simulated.without_limit() if seen.fits else simulated).events(batch)
    events, failures = _until_it_failed(seen)
    names, found = _events(events, recorded, simulated.trace.of(batch), sources)
    step = Seen(constant(found), engine.card, simulated.config, failures)
    return explain(step, batch, names)


def _until_it_failed(seen: VirtualMeasurement) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """A card's events, of which the last is what could not be allocated where the step does not fit; other failures."""
    if seen.fits:
        return seen.events, seen.failures
    before, size_bytes = seen.failures[-1]
    return (*seen.events[:before], size_bytes), seen.failures[:-1]


def _events(
    on_card: Sequence[int], recorded: Sequence[tuple[int, int]], trace: Trace, sources: Sequence[Source]
) -> tuple[list[Source], list[Event]]:
    """The card's events in the form of a recording's, and the source of each allocation by its key."""
    in_kernels = set(trace.key[trace.is_workspace | trace.is_cublas].tolist())
    pair_of = pairs(recorded, on_card)
    names: list[Source] = []
    events: list[Event] = []
    for place, (key, size_bytes) in enumerate(keyed(on_card)):
        is_in_kernel = False
        if size_bytes != FREE:
            known = recorded[pair_of[place]][0] if place in pair_of else None
            is_in_kernel = known is None or known in in_kernels
            before = names[-1] if names else sources[0]
            names.append(before._replace(owner=None) if known is None else sources[known])
        events.append(Event(key - 1, size_bytes, is_in_kernel, names[-1].op))
    return names, events
