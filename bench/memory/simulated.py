"""The simulated engine: does a batch fit a card? Answered by replaying a trace through PyTorch's allocator."""

from __future__ import annotations

import torch

from bench.memory.allocator import AllocatorConfig, CachingAllocator, replay
from bench.memory.gpus import Card
from bench.memory.search import Probe
from bench.memory.trace import Trace, Workspace


class SimulatedEngine:
    """One trace on one card.

    `workspace` chooses the bound of the temporaries inside kernels; `config` says which PyTorch release's allocator,
    with which options, by default the installed one's without any.
    """

    name = "simulated"

    def __init__(
        self,
        trace: Trace,
        card: Card,
        workspace: Workspace = Workspace.HIGH,
        config: AllocatorConfig | None = None,
    ) -> None:
        self.trace = trace
        self.card = card
        self.workspace = workspace
        self.config = config or AllocatorConfig(torch_version=_installed_release())

    def probe(self, batch: int) -> Probe:
        """Replay every allocation of the step at `batch` on the card."""
        events = self.trace.at(batch, self.workspace)
        result = replay(events, CachingAllocator(self.card.usable_bytes, config=self.config))
        return Probe(
            batch=batch,
            fits=result.fits,
            peak_allocated_bytes=result.peak_allocated_bytes,
            peak_reserved_bytes=result.peak_reserved_bytes,
            retries=result.retries,
        )

    def guess(self) -> int:
        """The largest batch whose live bytes alone stay within the card: no larger one can fit.

        Live bytes are one sum per event, so this costs no replay. 0 if not even batch 1 can fit.
        """
        usable_bytes = self.card.usable_bytes

        def within(batch: int) -> bool:
            return self.trace.peak_live_bytes(batch, self.workspace) <= usable_bytes

        low, high = 0, 1
        while within(high):
            low, high = high, 2 * high
            if high > 2**40:  # nothing in this step grows with the batch
                return low
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if within(middle) else (low, middle)
        return low


def _installed_release() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
