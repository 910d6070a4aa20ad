"""Make tests/golden/virtual/torch-X.Y.json.xz: the suite's cells on the virtual card, with the installed PyTorch.

    make virtual                        # in an environment of its own, with a CUDA build
    python -m tools.virtual_goldens     # with the python of such an environment

Prints how the recording differs, cell by cell, as tests/virtual/test_goldens.py counts it. Needs no GPU.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bench import config, suite
from bench.memory import CARDS, record
from bench.memory.cudnn.backend import version_text
from bench.memory.measuring.cuda import Trial
from bench.memory.trace import Workspace
from bench.virtual import VirtualDevice
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, write

CARD = CARDS["Quadro RTX 6000"]  # the paper's
BATCH, STEPS = 2, 2
FOLDER = Path("tests/golden/virtual")


def main() -> None:
    """Run every cell, write the file."""
    device = VirtualDevice(CARD)
    cells = {}
    for cell in suite.cells(config.load(config.default_path())):
        make_step = cell.workload.for_recording().make_step
        trial = Trial(
            make_step=make_step,
            batch=BATCH,
            steps=STEPS,
            limit_bytes=CARD.usable_bytes,
            device_index=0,
            alloc_conf="",
            allow_tf32=True,
            deterministic=False,
            cublas_workspace_config=CARD.cublas_workspace_config,
        )
        seen = device.measure(trial, with_events=True)
        assert seen.fits and seen.cudnn, f"{cell.architecture} on {cell.task} does not fit {CARD.name}"
        name = f"{cell.architecture} on {cell.task}"
        cells[name] = Golden(
            batch=BATCH,
            peak_allocated_bytes=seen.peak_allocated_bytes,
            peak_reserved_bytes=seen.peak_reserved_bytes,
            values_read=seen.values_read,
            lower_bounds=seen.lower_bounds,
            events=seen.events,
        )
        trace = record(make_step, STEPS).on(CARD)
        print(name, compare(trace.at(BATCH, Workspace.LOW), seen.events).summary(), flush=True)
        cudnn = version_text(seen.cudnn)
    release = ".".join(torch.__version__.split(".")[:2])
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"torch-{release}.json.xz"
    write(Goldens(torch=torch.__version__, cudnn=cudnn, card=CARD.name, steps=STEPS, cells=cells), path)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
