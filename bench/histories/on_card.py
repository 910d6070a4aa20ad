"""What a step does on the virtual card: what its allocator did, told as of a recording, and the peaks of some steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import torch

from bench.errors import UsageError
from bench.memory.allocator.caching import AllocatorConfig, CachingAllocator, replay
from bench.memory.allocator.history import Entry
from bench.memory.gpus import ENDLESS_BYTES, Card
from bench.memory.recording.marks import marked
from bench.memory.recording.recorder import MakeStep
from bench.memory.search import Probe
from bench.memory.simulated import installed_release
from bench.virtual import VirtualEngine
from bench.virtual.comparison import with_emptyings


@dataclass(frozen=True)
class _Marked:
    """A step with a marker at its beginning, which can be sent to another process."""

    make_step: MakeStep

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        return marked(self.make_step)(batch, device)


@dataclass(frozen=True)
class _Later:
    """A step whose peaks are counted from the call on that comes after `skipped` others."""

    make_step: MakeStep
    skipped: int

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        step, calls = self.make_step(batch, device), count()

        def counted() -> object:
            if next(calls) == self.skipped:
                torch.cuda.reset_peak_memory_stats(device)
            return step()

        return counted


def entries_on_card(make_step: MakeStep, batch: int, card: Card, steps: int) -> list[Entry]:
    """Everything the allocator does for a step that is built and called `steps` times, each after its marker.

    Args:
        make_step: one that can be sent to another process.
        batch: the batch.
        card: whose kernels run, and whose memory it is.
        steps: how often it is called.

    Raises:
        NoVirtualCardError: there can be no such virtual card on this system.
        ProbeFailedError: the step neither fits nor runs out of memory.
        UsageError: it runs out of memory.
    """
    seen = VirtualEngine(_Marked(make_step), card, steps=steps).watch(batch)
    if not seen.fits:
        raise UsageError(f"the step does not fit {card.name} at batch {batch}, as the history's did its card")
    entries: list[Entry] = []
    config = AllocatorConfig(torch_version=installed_release())
    events = with_emptyings(seen.events, seen.emptyings)
    replay(events, CachingAllocator(ENDLESS_BYTES, config=config, observer=entries.append))
    return entries


def probe_of_steps(make_step: MakeStep, batch: int, card: Card, steps: int, skipped: int) -> Probe:
    """The peaks of so many steps after those that are skipped, as PyTorch's allocator tells them.

    Args and Raises:
        as `entries_on_card`.
    """
    return VirtualEngine(_Later(make_step, skipped), card, steps=skipped + steps).probe(batch)
