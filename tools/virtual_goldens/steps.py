"""Make tests/golden/virtual/{gradients,modules,unchanged}-X.Y.json.xz: the steps of tests/fidelity on the virtual card.

    python -m tools.virtual_goldens.steps     # with the python of an environment that has a CUDA build of PyTorch

Prints how the recording differs. Needs no GPU.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import torch

from bench.memory import CARDS, Card, MakeStep, record
from bench.memory.cudnn.backend import version_text
from bench.memory.measuring.cuda import Trial
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.trace import Workspace
from bench.virtual import VirtualDevice
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, write
from tests.fidelity import gradients, modules, unchanged
from tools.virtual_goldens.__main__ import BATCH, CARD, FOLDER, STEPS


def main() -> None:
    """Write the files, or those that the command line names."""
    files = {"gradients": gradients.STEPS, "modules": modules.STEPS, "unchanged": unchanged.STEPS}
    for name in sys.argv[1:] or files:
        make(name, files[name], CARDS["RTX 3080"] if name == "unchanged" else CARD)


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
        with on_cuda(card.compute_capability) if file_name == "unchanged" else nullcontext():
            trace = record(make_step, STEPS).on(card)
        found = compare(trace.at(BATCH, Workspace.LOW), seen.events)
        print(name, found.same, *map(dict, (found.temporaries, found.on_card, found.recorded)), flush=True)
        cudnn = version_text(seen.cudnn) if seen.cudnn else cudnn
    release = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"{file_name}-{release}.json.xz"
    write(Goldens(torch=torch.__version__, cudnn=cudnn, card=card.name, steps=STEPS, cells=cells), path)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
