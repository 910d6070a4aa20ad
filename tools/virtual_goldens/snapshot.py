"""Make snapshot-X.Y.pickle: what PyTorch writes of a small training step on the virtual card.

    python -m bench.virtual "RTX 3080" tools/virtual_goldens/snapshot.py FILE

with the python of an environment that has a CUDA build of PyTorch, from the top of the repository. Needs no GPU. Paths
are told from the environment's or the repository's folder on, callers as far as the step, and times are numbers of
entries, so that the same history gives the same bytes.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path.cwd()))

from tests.fidelity.snapshot_step import BATCH, make_step

STEPS = 2
STEP = "tests/fidelity/snapshot_step.py"


def main() -> None:
    """Record two steps after construction, write the snapshot to FILE in the protocol that PyTorch writes."""
    step = make_step(BATCH, torch.device("cuda"))
    torch.cuda.memory._record_memory_history(stacks="python")
    for _ in range(STEPS):
        step()
    snapshot = torch.cuda.memory._snapshot()
    (trace,) = snapshot["device_traces"]
    for kind in (trace, snapshot["external_annotations"]):
        for number, entry in enumerate(kind):
            entry["time_us"] = number
    for entry in trace:
        entry["frames"] = _inside(entry.get("frames", ()))
    for segment in snapshot["segments"]:
        segment.pop("frames", None)
        for block in segment["blocks"]:
            block.pop("frames", None)
    Path(sys.argv[1]).write_bytes(pickle.dumps(snapshot, protocol=4))


def _inside(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames of the step, with short paths: all but its callers."""
    short = [frame | {"filename": _short(frame["filename"])} for frame in frames]
    outermost = max((place for place, frame in enumerate(short) if frame["filename"] == STEP), default=-1)
    return short[: outermost + 1]


def _short(file: str) -> str:
    """From the folder of libraries or the repository on."""
    _, library, inside = file.rpartition("/site-packages/")
    return f"/site-packages/{inside}" if library else file.removeprefix(f"{Path.cwd()}/")


if __name__ == "__main__":
    main()
