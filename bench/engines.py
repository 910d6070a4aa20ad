"""What answers "does batch B fit?", by name: one function for whoever asks about a training step.

engine = engine_named("virtual", make_step, card)
largest_batch(engine).batch
"""

from __future__ import annotations

from typing import Literal

from bench.memory import Card, Engine, MakeStep, SimulatedEngine, record
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.cudnn.envelope import Envelope
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.measuring.cuda import CudaEngine, Device
from bench.memory.recording.recorder import STEPS
from bench.memory.simulated import installed_release
from bench.virtual import VirtualEngine

EngineName = Literal["simulated", "virtual", "cuda"]


def engine_named(
    name: EngineName,
    make_step: MakeStep,
    card: Card,
    *,
    steps: int = STEPS,
    alloc_conf: str = "",
    allow_tf32: bool = True,
    deterministic: bool = False,
) -> Engine:
    """An engine that answers for a step on a card.

    Args:
        name: "simulated" (a recording, replayed), "virtual" (PyTorch's own CUDA code, no GPU) or "cuda" (a GPU).
        make_step: `make_step(batch, device)` builds model and optimiser on `device` and returns one training step.
        card: whose memory it is, and but for "cuda" whose kernels run.
        steps: training steps of a probe.
        alloc_conf: PyTorch's allocator options.
        allow_tf32: torch.backends.cudnn.allow_tf32.
        deterministic: torch.backends.cudnn.deterministic.

    Raises:
        NotRecordableError: "simulated" cannot record the step.
        NoVirtualCardError: there can be no such virtual card on this system.
        ValueError: an unknown name, or allocator options that are not PyTorch's.
    """
    if name == "simulated":
        config = AllocatorConfig.parse(alloc_conf, installed_release())
        source = workspaces(card, allow_tf32=allow_tf32, deterministic=deterministic) or Envelope(
            card, allow_tf32=allow_tf32, deterministic=deterministic
        )
        return SimulatedEngine(record(make_step, steps), card, config=config, workspaces=source)
    return engine_that_runs(
        name,
        make_step,
        card,
        steps=steps,
        alloc_conf=alloc_conf,
        allow_tf32=allow_tf32,
        deterministic=deterministic,
    )


def engine_that_runs(
    name: EngineName,
    make_step: MakeStep,
    card: Card,
    *,
    first_guess: int = 1,
    steps: int = STEPS,
    alloc_conf: str = "",
    allow_tf32: bool = True,
    deterministic: bool = False,
    device: Device | None = None,
) -> CudaEngine:
    """One of the engines that run the step: "virtual" or "cuda", or either on a stand-in `device`.

    Raises:
        NoVirtualCardError: there can be no such virtual card on this system.
        ValueError: an unknown name.
    """
    kinds: dict[str, type[CudaEngine]] = {"cuda": CudaEngine, "virtual": VirtualEngine}
    if name not in kinds:
        raise ValueError(f"unknown engine {name!r}: known are simulated, {', '.join(sorted(kinds, reverse=True))}")
    return kinds[name](
        make_step,
        card,
        first_guess=first_guess,
        steps=steps,
        alloc_conf=alloc_conf,
        allow_tf32=allow_tf32,
        deterministic=deterministic,
        device=device,
    )
