"""Make tests/golden/virtual/KIND-X.Y.json.xz with a PyTorch that bench is too new for, in an environment of its own.

    python -m tools.virtual_goldens.older PYTHON KIND ...

from the top of the repository, with bench's own python. PYTHON is that of the environment, which needs PyTorch alone:
pip install torch==2.2.2 'numpy<2'. Needs no GPU. Kinds are those of tools/virtual_goldens/kinds.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from bench.memory.trace import Workspace
from bench.virtual.figures import figures
from bench.virtual.goldens import Golden, Goldens, write
from bench.virtual.library import build, imported_by, preloads
from bench.virtual.worker import history_of
from tools.virtual_goldens.kinds import KINDS, Kind

FOLDER = Path("tests/golden/virtual")
SCRIPT = Path(__file__).with_name("alone.py")
_ASKS = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, torch.__path__[0]]))"


class Build(NamedTuple):
    """A PyTorch of another python."""

    version: str
    cuda: str
    folder: str

    @classmethod
    def of(cls, python: str) -> Build:
        """The one that a python has."""
        done = subprocess.run([python, "-c", _ASKS], capture_output=True, text=True, check=True)
        return cls(*json.loads(done.stdout.splitlines()[-1]))

    @property
    def release(self) -> str:
        """As in "2.2"."""
        return ".".join(self.version.split(".")[:2])


def main() -> None:
    """Make the files and print what they have."""
    python, *names = sys.argv[1:]
    release = Build.of(python).release
    for name in names:
        goldens = made(python, KINDS[name])
        path = FOLDER / f"{name}-{release}.json.xz"
        write(goldens, path)
        events = sum(len(golden.events) for golden in goldens.cells.values())
        print(f"{path}: torch {goldens.torch}, cuDNN {goldens.cudnn}, {len(goldens.cells)} steps, {events:,} events")


def made(python: str, kind: Kind) -> Goldens:
    """What the steps of a kind do with the PyTorch of another python."""
    other = Build.of(python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, imported_by(sorted(Path(other.folder, "lib").glob("*.so*"))), other.cuda.split(".")[0])
        answers = {step: _answer(python, folder, kind, step) for step in kind.make_steps}
    cells = {
        step: Golden(
            batch=kind.batch,
            events=history_of(answer["trace"])[0],
            **{field: answer[field] for field in Golden.model_fields.keys() - {"batch", "events"}},
        )
        for step, answer in answers.items()
    }
    cudnn = _version_text(max(answer["cudnn"] for answer in answers.values()))
    return Goldens(torch=other.version, cudnn=cudnn, card=kind.card.name, steps=kind.steps, cells=cells)


def _answer(python: str, folder: Path, kind: Kind, name: str) -> Any:
    """What a process that has the card says of a step.

    Raises:
        RuntimeError: it calls what the card does not know, or fails otherwise.
    """
    make_step: Any = kind.make_steps[name]
    asked = figures(kind.card, Workspace.LOW)._asdict() | {
        "module": make_step.__module__,
        "function": make_step.__name__,
        "batch": kind.batch,
        "steps": kind.steps,
    }
    done = subprocess.run(
        [python, str(SCRIPT)],
        input=json.dumps(asked),
        env=os.environ | {"LD_PRELOAD": preloads(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with exit code {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["unknown"]:
        raise RuntimeError(f"{name} calls {answer['unknown']}, which the virtual card does not know")
    return answer


def _version_text(version: int) -> str:
    """As people write it; cuDNN 8 counted in thousands: 8902 is 8.9.2, 90100 is 9.1.0."""
    thousands = 1000 if version < 90000 else 10000
    return f"{version // thousands}.{version % thousands // 100}.{version % 100}"


if __name__ == "__main__":
    main()
