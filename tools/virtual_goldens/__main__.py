"""Make tests/golden/virtual/KIND-X.Y.json.xz: whole steps on the virtual card, with the installed PyTorch.

    make virtual                                # in an environment of its own, with a CUDA build
    python -m tools.virtual_goldens [KIND ...]  # with the python of such an environment

Prints how the recording differs, step by step, as the tests of tests/virtual count it. Needs no GPU.
With the kind "convolutions" goes what cuDNN takes for each call, so that it must be installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bench.memory.cudnn.backend import version_text
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.trace import Workspace
from bench.virtual import VirtualDevice
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, write
from tests.fidelity import workspaces as kept
from tools.virtual_goldens.kinds import KINDS, Kind

FOLDER = Path("tests/golden/virtual")


def main() -> None:
    """Make the files of the kinds that are named, or of all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    release = ".".join(torch.__version__.split(".")[:2])
    for name in sys.argv[1:] or KINDS:
        path = FOLDER / f"{name}-{release}.json.xz"
        write(made(KINDS[name]), path)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB", flush=True)
        if name == "convolutions":
            kind = KINDS[name]
            traces = {step: kind.recorded(step) for step in kind.make_steps}
            kept.write(FOLDER / f"workspaces-{release}.json.xz", traces, workspaces(kind.card), kind.batch)


def made(kind: Kind) -> Goldens:
    """Run every step of a kind."""
    device = VirtualDevice(kind.card)
    cudnn = ""
    answers = {}
    for name in kind.make_steps:
        seen = device.measure(kind.trial(name))
        assert seen.fits, f"{name} does not fit {kind.card.name}"
        answers[name] = Golden.of(kind.batch, seen)
        cudnn = version_text(seen.cudnn) if seen.cudnn else cudnn
        print(name, _difference(kind, name, answers[name]), flush=True)
    return Goldens(torch=torch.__version__, cudnn=cudnn, card=kind.card.name, steps=kind.steps, cells=answers)


def _difference(kind: Kind, name: str, golden: Golden) -> object:
    if not kind.is_recorded:
        return f"{len(golden.events)} events"
    return compare(kind.recorded(name).at(golden.batch, Workspace.LOW), golden.events).summary()


if __name__ == "__main__":
    main()
