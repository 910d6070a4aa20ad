"""Which engine answers about a step: by name, or whatever this machine has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.errors import UsageError
from bench.fitting.answer import Engine
from bench.fitting.model_step import ModelStep
from bench.fitting.named_step import named
from bench.fitting.on_device import OnDevice
from bench.fitting.recorded import Recorded
from bench.fitting.user_step import load_make_step
from bench.memory import Card
from bench.memory.forms import WrongFormError, as_make_step
from bench.memory.measuring.cuda import CudaEngine, NoGpuError, require_gpu
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS
from bench.streams import in_silence
from bench.virtual import NoVirtualCardError, VirtualDevice, VirtualEngine

Step = str | ModelStep | Callable[..., Any]
"""A step as such, by its name, or around a network."""

ENGINES = ("auto", "virtual", "simulated", "cuda")


def engine_of(step: Step, name: str, cards: Sequence[Card], alloc_conf: str = "", steps: int = STEPS) -> Engine:
    """What answers about a step, given as such or by its name (bench.fitting.user_step), of which it runs `steps`.

    `name` is one of ENGINES; "auto" is the virtual card where there can be one and the step can be imported in another
    process, else the recording.

    Raises:
        UsageError: that cannot be had here, or not for this step.
        NotRecordableError: the step cannot be recorded, and was to be.
    """
    sent = named(step)
    if name == "auto":
        name = "virtual" if sent and _can_be_virtual(cards) else "simulated"
    if name == "simulated":
        return recorded_step(step, alloc_conf, steps)
    if sent is None:
        raise UsageError(
            f"the {name} engine runs steps in another process, which has to import them: write it in a file"
        )
    try:
        if name == "cuda":
            require_gpu(max(card.usable_bytes for card in cards))
        else:
            for card in cards:
                VirtualDevice(card)
    except (NoGpuError, NoVirtualCardError) as error:
        raise UsageError(str(error)) from error
    engine = CudaEngine if name == "cuda" else VirtualEngine
    return OnDevice(engine, sent, steps, alloc_conf, recorded=_recorded_if_it_can(step, alloc_conf, steps))


def _can_be_virtual(cards: Sequence[Card]) -> bool:
    """Whether there can be a virtual card of each; its library is built if need be."""
    try:
        for card in cards:
            VirtualDevice(card)
    except NoVirtualCardError:
        return False
    return True


def recorded_step(step: Step, alloc_conf: str = "", steps: int = STEPS) -> Recorded:
    """A step given as such or by its name, recorded."""
    if isinstance(step, str):
        with on_cuda(), in_silence():
            return Recorded(load_make_step(step), steps, alloc_conf)
    return Recorded(as_make_step(step), steps, alloc_conf)


def _recorded_if_it_can(step: Step, alloc_conf: str, steps: int) -> Recorded | None:
    """The recording, for where a search starts and what a peak is made of; None where the step cannot be recorded.

    Raises:
        WrongFormError: it is no step, on whatever engine.
    """
    try:
        return recorded_step(step, alloc_conf, steps)
    except WrongFormError:
        raise
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it raises, the engine that was asked for raises it too
        return None
