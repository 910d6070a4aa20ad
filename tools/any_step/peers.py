"""What other tools say of the memory of the same training steps, beside the recording and the virtual card.

python -m tools.any_step.peers writes the table of docs/ANY-STEP.md between its marks. It needs a CUDA build of PyTorch,
the packages of tests/steps/compared.py, whose steps it asks about, torch-kitsune and accelerate.

python -m bench.virtual CARD tools/any_step/peers.py STEP prints what PyTorch's own MemTracker counts: it runs a step
on a device, and has the virtual card's here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import peak_memory
from bench.units import MiB
from tools.any_step.document import DOCUMENT, markdown, renew

CARD = "RTX 3090"
BATCH = 32
STEPS = "tests.steps.compared"


def by_card(step: str) -> int:
    """What PyTorch's CUDA code reserves on the virtual card, in bytes: what has to fit."""
    return peak_memory(f"{STEPS}:{step}", BATCH, gpu=CARD, engine="virtual")


def by_recording(step: str) -> int:
    """What the recording says is reserved, without CUDA, in bytes."""
    return peak_memory(f"{STEPS}:{step}", BATCH, gpu=CARD, engine="simulated")


def by_mem_tracker(step: str) -> int:
    """The peak of torch.distributed's MemTracker, in bytes."""
    arguments = [sys.executable, "-W", "ignore", "-m", "bench.virtual", CARD, __file__, step]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def by_kitsune(step: str) -> int:
    """The prediction of torch-kitsune for training with Adam in float32, in bytes."""
    predict: Any = import_module("kitsune.predict")
    compared = import_module(STEPS)
    told = predict.predict_memory(compared.NETWORKS[step](), compared.IMAGE_SHAPE, BATCH, optimizer="adam")
    return int(told.total_bytes)


def by_accelerate(step: str) -> int:
    """What `accelerate estimate-memory` says of training with Adam in float32, in bytes; it knows of no batch."""
    estimate: Any = import_module("accelerate.commands.estimate")
    weights_bytes, _ = estimate.calculate_maximum_sizes(import_module(STEPS).NETWORKS[step]())
    return int(max(estimate.estimate_training_usage(weights_bytes, "float32").values()))


ASKED: dict[str, Callable[[str], int]] = {
    "bench, recorded": by_recording,
    "MemTracker": by_mem_tracker,
    "torch-kitsune": by_kitsune,
    "accelerate": by_accelerate,
}
"""Who is asked, beside the card."""


def row(step: str) -> list[str]:
    """One line of the table: what each tool says, and by how much it is off what the card reserves."""
    reserved_bytes = by_card(step)
    told = [(each(step), reserved_bytes) for each in ASKED.values()]
    return [
        step,
        f"{reserved_bytes / MiB:,.0f}",
        *(f"{said / MiB:,.0f} ({said / true - 1:+.1%})" for said, true in told),
    ]


def table(rows: list[list[str]], versions: str) -> str:
    """Markdown of all rows."""
    heads = [f"batch {BATCH}, {CARD}", "card, reserved MiB", *ASKED]
    return f"{versions}\n\n{markdown(heads, rows)}"


def count_by_mem_tracker(step: str) -> int:
    """Run two steps on this process's device under MemTracker, and give its peak in bytes."""
    from torch.distributed._tools.mem_tracker import MemTracker

    with MemTracker() as tracker:
        run = getattr(import_module(STEPS), step)(BATCH)
        run()
        tracker.reset_mod_stats()
        run()
    peaks = tracker.get_tracker_snapshot("peak")
    return next(int(of_device["Total"]) for device, of_device in peaks.items() if device.type == "cuda")


def main() -> None:
    """Renew the document."""
    names = [f"{name} {version(name)}" for name in ("torch", "torch-kitsune", "accelerate", "timm", "torchvision")]
    told = table([row(each) for each in import_module(STEPS).NETWORKS], f"{', '.join(names)}.")
    renew(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT, "peers", told)


if __name__ == "__main__":
    if "bench.virtual" in sys.orig_argv:
        print(count_by_mem_tracker(sys.argv[1]))
    else:
        main()
