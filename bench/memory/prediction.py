"""The engine without a GPU for a step of one's own: exact where that can be, else a bound."""

from __future__ import annotations

from dataclasses import replace

from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.cudnn.envelope import Envelope, with_most_cublas
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.gpus import Card
from bench.memory.simulated import SimulatedEngine
from bench.memory.trace import Trace


def prediction(
    trace: Trace, card: Card, config: AllocatorConfig | None = None, kernels_of: Card | None = None
) -> SimulatedEngine:
    """A trace on a card: with cuDNN's own workspaces, or the most that kernels take on any card that is meant.

    Args:
        trace: Of the step.
        card: Whose memory is meant.
        config: As of `SimulatedEngine`.
        kernels_of: The card whose kernels run, where that is another.
    """
    runs = kernels_of or card
    source = workspaces(runs)
    if source is not None:
        return SimulatedEngine(trace, card, config=config, workspaces=source)
    most = replace(card, compute_capability=with_most_cublas(runs).compute_capability)
    return SimulatedEngine(trace, most, config=config, workspaces=Envelope(runs))
