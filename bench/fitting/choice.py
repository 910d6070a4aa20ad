"""Which engine answers about a step: by name, or whatever this machine has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.errors import UsageError
from bench.fitting.answer import Assumption, Engine
from bench.fitting.model_step import ModelStep
from bench.fitting.named_step import named
from bench.fitting.on_device import OnDevice
from bench.fitting.process import process_here
from bench.fitting.recorded import Recorded
from bench.fitting.user_step import load_make_step
from bench.memory import Card
from bench.memory.forms import WrongFormError, as_make_step
from bench.memory.measuring.cuda import CudaEngine, NoGpuError, require_gpu
from bench.memory.recording.allocator_told import allocator_heard
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS
from bench.memory.recording.refusals import GrowsError, NotAlikeError
from bench.streams import in_silence
from bench.virtual import NoVirtualCardError, VirtualDevice, VirtualEngine

Step = str | ModelStep | Callable[..., Any]
"""A step as such, by its name, or around a network."""

ENGINES = ("auto", "virtual", "simulated", "cuda")


def engine_of(step: Step, name: str, cards: Sequence[Card], steps: int = STEPS) -> Engine:
    """What answers about a step, given as such or by its name (bench.fitting.user_step), of which it runs `steps`.

    `name` is one of ENGINES; "auto" is the virtual card where there can be one and the step can be imported in another
    process, else the recording.

    Raises:
        UsageError: that cannot be had here, or not for this step.
        NotRecordableError: the step cannot be recorded, and was to be; or, on any engine, it keeps more each time.
    """
    sent = named(step)
    if name == "auto":
        name = "virtual" if sent and _can_be_virtual(cards) else "simulated"
    if name == "simulated":
        return recorded_step(step, steps, cards[0])
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
    said: list[Assumption] = []
    recorded = _recorded_if_it_can(step, steps, cards[0], said)
    process = recorded.process if recorded else process_here()
    return OnDevice(engine, sent, steps, process, recorded, said)


def _can_be_virtual(cards: Sequence[Card]) -> bool:
    """Whether there can be a virtual card of each; its library is built if need be."""
    try:
        for card in cards:
            VirtualDevice(card)
    except NoVirtualCardError:
        return False
    return True


def recorded_step(step: Step, steps: int = STEPS, first: Card | None = None) -> Recorded:
    """A step given as such or by its name, recorded; `first` as of `Recorded`.

    Raises:
        NotRecordableError: it cannot be recorded.
        UsageError: there is no such step, or the environment tells PyTorch what cannot be obeyed.
        WrongFormError: it is no step.
    """
    said: list[str] = []
    with on_cuda(), in_silence(), allocator_heard(said.append):
        make_step = load_make_step(step) if isinstance(step, str) else as_make_step(step)
    return Recorded(make_step, steps, process_here(said), first)


def _recorded_if_it_can(step: Step, steps: int, first: Card, said: list[Assumption]) -> Recorded | None:
    """The recording, for where a search starts and what a peak is made of; None where the step cannot be recorded.

    What a run of `steps` calls would not show is added to `said`.

    Raises:
        GrowsError: the step keeps more each time it is called, so that no batch fits for ever.
        WrongFormError: it is no step, on whatever engine.
    """
    try:
        return recorded_step(step, steps, first)
    except (GrowsError, WrongFormError):
        raise
    except NotAlikeError as error:
        said.append(Assumption(f"the {steps} calls that were run stand for all: {error}", is_value=True))
        return None
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it raises, the engine that was asked for raises it too
        return None
