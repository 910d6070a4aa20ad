"""Make tests/golden/virtual: what the virtual card answers, with the installed PyTorch, and what has changed there.

    make virtual                                # in an environment of its own, with a CUDA build
    python -m tools.virtual_goldens [NAME ...]  # with the python of such an environment, from the top of the repository

Makes the files that are kept for the installed release, or all if there are none; or those named, such as foreign. A
file whose answers are the kept ones stays as it is, to the byte. Ends with exit code 1 if any changed. Needs no GPU.
With the steps "convolutions" goes what cuDNN takes for each call, so that it must be installed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bench.virtual.goldens import read, same, write
from tools.virtual_goldens import calls, steps
from tools.virtual_goldens.kinds import KINDS

FOLDER = Path("tests/golden/virtual")
SCRIPTS = {"snapshot": "{name}-{release}.pickle", "layers": "{name}-{release}.json.xz"}


def main() -> int:
    """Make the files and print what they have; 1 if a kept one has changed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    release = ".".join(torch.__version__.split(".")[:2])
    paths = {name: FOLDER / f"{name}-{release}.json.xz" for name in (*KINDS, *calls.CALLS)}
    paths |= {name: FOLDER / file.format(name=name, release=release) for name, file in SCRIPTS.items()}
    kept = [name for name, path in paths.items() if path.exists()]
    changed, totals = [], dict.fromkeys(("files", "steps", "events", "calls"), 0)
    for name in sys.argv[1:] or kept or paths:
        was = paths[name].read_bytes() if paths[name].exists() else None
        counts = _make(name)(paths[name])
        for what, count in counts.items():
            totals[what] += count
        totals["files"] += 1
        verdict = "new" if was is None else "as kept" if was == paths[name].read_bytes() else "CHANGED"
        changed += [name] * (verdict == "CHANGED")
        print(f"{paths[name]}: {_told(counts)}: {verdict}", flush=True)
    print(f"torch {torch.__version__}: {_told(totals)}; changed: {', '.join(changed) or 'none'}")
    return 1 if changed else 0


def _make(name: str) -> Callable[[Path], dict[str, int]]:
    """What writes the file of this name, and tells how much it has."""
    if name in SCRIPTS:
        return lambda path: _run_script(name, path)
    return _make_steps(name) if name in KINDS else lambda path: calls.make(name, path)


def _make_steps(name: str) -> Callable[[Path], dict[str, int]]:
    def make(path: Path) -> dict[str, int]:
        kept = read(path) if path.exists() else None
        made = steps.made(KINDS[name], kept)
        if kept is None or not same(kept, made):
            write(made, path)
        if name == "convolutions":
            steps.keep_workspaces(KINDS[name], path.with_name(path.name.replace(name, "workspaces")))
        return {"steps": len(made.cells), "events": sum(len(golden.events) for golden in made.cells.values())}

    return make


def _run_script(name: str, path: Path) -> dict[str, int]:
    """In a process of its own that has the card: PyTorch numbers its traces from the start of a process."""
    script = Path(__file__).with_name(f"{name}.py")
    subprocess.run([sys.executable, "-m", "bench.virtual", "RTX 3080", str(script), str(path)], check=True)
    return {}


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "one file"


if __name__ == "__main__":
    sys.exit(main())
