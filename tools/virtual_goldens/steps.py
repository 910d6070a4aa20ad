"""Make tests/golden/virtual/*-X.Y.json.xz: the steps of tests/fidelity on the virtual card.

    python -m tools.virtual_goldens.steps     # with the python of an environment that has a CUDA build of PyTorch

Prints how the recording differs. Needs no GPU.
"""

from __future__ import annotations

import sys

import torch

from bench.memory import CARDS, Card, MakeStep, record
from bench.memory.cudnn.backend import version_text
from bench.memory.measuring.cuda import Trial
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.trace import Trace, Workspace, constant
from bench.virtual import VirtualDevice
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, write
from tests.fidelity import attention, gradients, modules, unchanged
from tools.virtual_goldens.__main__ import BATCH, CARD, FOLDER, STEPS

FILES = {
    "gradients": (gradients.STEPS, CARD),
    "modules": (modules.STEPS, CARD),
    "unchanged": (unchanged.STEPS, CARDS["RTX 3080"]),
    "attention": (attention.STEPS, CARDS["RTX 3080"]),
    "attention-turing": (attention.STEPS, CARD),
    "attention-hopper": (attention.STEPS, CARDS["H100 SXM"]),
}
ON_CUDA = ("unchanged", "attention", "attention-turing", "attention-hopper")


def recorded(make_step: MakeStep, card: Card, batch: int, steps: int) -> Trace:
    """A step that says "cuda", as it is at one batch: flash attention does something else at others."""
    with on_cuda(card):
        return constant(events_of(make_step, batch, steps))


def main() -> None:
    """Write the files, or those that the command line names."""
    for name in sys.argv[1:] or FILES:
        make(name, *FILES[name])


def make(file_name: str, make_steps: dict[str, MakeStep], card: Card) -> None:
    """Run every step on a card, write the file."""
    device = VirtualDevice(card)
    cells = {}
    cudnn = ""
    for name, make_step in make_steps.items():
        trial = Trial(
            make_step=make_step,
            batch=BATCH,
            steps=STEPS,
            limit_bytes=card.usable_bytes,
            device_index=0,
            alloc_conf="",
            allow_tf32=True,
            deterministic=False,
            cublas_workspace_config=card.cublas_workspace_config,
        )
        seen = device.measure(trial, with_events=True)
        cells[name] = Golden(
            batch=BATCH,
            peak_allocated_bytes=seen.peak_allocated_bytes,
            peak_reserved_bytes=seen.peak_reserved_bytes,
            values_read=seen.values_read,
            lower_bounds=seen.lower_bounds,
            events=seen.events,
        )
        trace = recorded(make_step, card, BATCH, STEPS) if file_name in ON_CUDA else record(make_step, STEPS)
        trace = trace.with_cublas_workspace(card.cublas_workspace_bytes)
        found = compare(trace.at(BATCH, Workspace.LOW), seen.events)
        print(name, found.same, *map(dict, (found.temporaries, found.on_card, found.recorded)), flush=True)
        cudnn = version_text(seen.cudnn) if seen.cudnn else cudnn
    release = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"{file_name}-{release}.json.xz"
    write(Goldens(torch=torch.__version__, cudnn=cudnn, card=card.name, steps=STEPS, cells=cells), path)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
