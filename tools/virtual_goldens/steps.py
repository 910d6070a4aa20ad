"""Whole steps on the virtual card. Prints how the recording differs, step by step, as tests/virtual counts it."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.memory.cudnn.backend import version_text
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.trace import Workspace
from bench.virtual import VirtualDevice
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, same_step
from tests.fidelity import workspaces as kept
from tools.virtual_goldens.kinds import Kind

TIMES = 10


def made(kind: Kind, before: Goldens | None = None) -> Goldens:
    """Run every step of a kind; again, at most so many TIMES, while it answers otherwise than is kept.

    The thread on which PyTorch computes gradients lets go of the last ones while the caller already goes on: where
    gradients are differentiated, such a free and the caller's next allocation come in either order.
    """
    device = VirtualDevice(kind.card, work_areas=Workspace.LOW)
    cudnn = ""
    answers = {}
    for name in kind.make_steps:
        for _ in range(TIMES):
            seen = device.measure(kind.trial(name))
            assert seen.fits, f"{name} does not fit {kind.card.name}"
            answers[name] = Golden.of(kind.batch, seen)
            if before is None or name not in before.cells or same_step(before.cells[name], answers[name]):
                break
        cudnn = version_text(seen.cudnn) if seen.cudnn else cudnn
        print(f"  {name}: {_difference(kind, name, answers[name])}", flush=True)
    return Goldens(torch=torch.__version__, cudnn=cudnn, card=kind.card.name, steps=kind.steps, cells=answers)


def keep_workspaces(kind: Kind, path: Path) -> None:
    """What cuDNN takes for each convolution of the steps, on the kind's card."""
    traces = {step: kind.recorded(step) for step in kind.make_steps}
    kept.write(path, traces, workspaces(kind.card), kind.batch)


def _difference(kind: Kind, name: str, golden: Golden) -> str:
    if not kind.is_recorded:
        return f"{len(golden.events)} events"
    found = compare(kind.recorded(name).at(golden.batch, Workspace.LOW), golden.events)
    counts = (found.temporaries.total(), found.on_card.total(), found.recorded.total())
    return (
        f"{found.same} events of both, {counts[0]} temporaries and {counts[1]} more of the card, {counts[2]} recorded"
    )
