"""Make tests/golden/virtual/snapshot-X.Y.pickle: what PyTorch writes of a small training step on the virtual card.

    python -m bench.virtual "RTX 3080" tools/virtual_goldens/snapshot.py

with the python of an environment that has a CUDA build of PyTorch, from the top of the repository. Needs no GPU. Paths
are told from the environment's or the repository's folder on.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path.cwd()))

from tests.fidelity.snapshot_step import BATCH, make_step

FOLDER = Path("tests/golden/virtual")
STEPS = 2


def main() -> None:
    """Record two steps after construction, write the snapshot in the protocol that PyTorch writes."""
    step = make_step(BATCH, torch.device("cuda"))
    torch.cuda.memory._record_memory_history(stacks="python")
    for _ in range(STEPS):
        step()
    snapshot = torch.cuda.memory._snapshot()
    for trace in snapshot["device_traces"]:
        for entry in trace:
            for frame in entry.get("frames", ()):
                frame["filename"] = _short(frame["filename"])
    for segment in snapshot["segments"]:
        segment.pop("frames", None)
        for block in segment["blocks"]:
            block.pop("frames", None)
    release = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"snapshot-{release}.pickle"
    path.write_bytes(pickle.dumps(snapshot, protocol=4))
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {len(snapshot['device_traces'][0])} entries")


def _short(file: str) -> str:
    """From the folder of libraries or the repository on."""
    _, library, inside = file.rpartition("/site-packages/")
    return f"/site-packages/{inside}" if library else file.removeprefix(f"{Path.cwd()}/")


if __name__ == "__main__":
    main()
