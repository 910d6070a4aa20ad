"""Training steps around networks of other people's packages, asked of both engines: the table of docs/ANY-STEP.md.

The steps are those of tests/steps: every function there with one argument, the batch. Each is asked in a process of
its own (python -m tools.any_step.real_steps MODULE:FUNCTION prints what was found as JSON), since packages change
PyTorch as they are imported.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.commands.measuring import steps_errors_told
from bench.errors import UsageError
from bench.fitting import Engine, OnDevice, Recorded, recorded_step
from bench.fitting.named_step import NamedStep
from bench.memory import Boundary
from bench.memory.gpus import CARDS
from bench.units import MiB
from bench.virtual import VirtualEngine
from tools.any_step.document import markdown

FOLDER = Path("tests/steps")
CARD = CARDS["RTX 3080"]
SECONDS = 560
MOST = 0.01  # of the peaks, by which the engines may differ

T = TypeVar("T")


@dataclass(frozen=True)
class Answered:
    """What one engine says of a step: its largest batch, and what a batch takes at its peak; or why it refuses."""

    batch: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Found:
    """What was found for a step.

    Attributes:
        step: Its name, MODULE:FUNCTION.
        batch: The largest that fits by both engines, or by the one that answers: that whose peaks are told.
        recorded: By recording.
        virtual: By the virtual card; None where no CUDA build of PyTorch is installed.
    """

    step: str
    batch: int
    recorded: Answered
    virtual: Answered | None

    @property
    def differences(self) -> tuple[float, float] | None:
        """The recording's peaks against the virtual card's, allocated and reserved: 0.01 is 1 % more."""
        ours, theirs = self.recorded, self.virtual
        if theirs is None or not (ours.reserved_bytes and theirs.reserved_bytes):
            return None
        assert ours.allocated_bytes and theirs.allocated_bytes
        return ours.allocated_bytes / theirs.allocated_bytes - 1, ours.reserved_bytes / theirs.reserved_bytes - 1


KNOWN = {"torch:packed_gru": "a bound for the workspace of packed sequences"}
"""Why the engines differ by more than a hundredth, by the step's short name."""


def short(step: str) -> str:
    """A step's name as the table has it: "timm:resnet18"."""
    return step.split(".with_")[-1]


def names(folder: Path = FOLDER) -> list[str]:
    """All steps, as MODULE:FUNCTION; without importing the packages that they need."""
    return [
        f"{'.'.join(folder.parts[-2:])}.{path.stem}:{function.name}"
        for path in sorted(folder.glob("with_*.py"))
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef) and [each.arg for each in function.args.args] == ["batch"]
        if not function.args.kwarg
    ]


def ask(step: str) -> Found:
    """Ask both engines about a step, in this process."""
    ours = _told(step, lambda: recorded_step(step))
    engines = [ours]
    if torch.version.cuda:
        recorded = ours if isinstance(ours, Recorded) else None
        engines.append(_told(step, lambda: OnDevice(VirtualEngine, NamedStep(step), recorded=recorded)))
    edges = [each if isinstance(each, str) else _told(step, partial(each.largest, CARD)) for each in engines]
    batch = min((each.batch for each in edges if isinstance(each, Boundary)), default=0)
    answers = [_at(step, *each, max(batch, 1)) for each in zip(engines, edges, strict=True)]
    return Found(step, batch, answers[0], answers[1] if len(answers) > 1 else None)


def _at(step: str, engine: Engine | str, edge: Boundary | str, batch: int) -> Answered:
    if isinstance(engine, str) or isinstance(edge, str):
        return Answered(refusal=str(edge))
    probed = [each for each in edge.probes if each.batch == batch]
    probe = probed[0] if probed else _told(step, partial(engine.probe, CARD, batch))
    if isinstance(probe, str):
        return Answered(edge.batch, refusal=probe)
    return Answered(edge.batch, probe.peak_allocated_bytes, probe.peak_reserved_bytes)


def _told(step: str, function: Callable[[], T]) -> T | str:
    """What a function gives, or the sentence in which it refuses."""
    try:
        with steps_errors_told(step), contextlib.redirect_stderr(io.StringIO()):
            return function()
    except UsageError as error:
        return str(error)


def asked(step: str) -> Found:
    """Ask about a step in a process of its own; one that takes too long is refused by both engines.

    Raises:
        ModuleNotFoundError: the package that it needs is not installed.
        RuntimeError: the process failed.
    """
    arguments = [sys.executable, "-W", "ignore", "-m", "tools.any_step.real_steps", step]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        late = Answered(refusal=f"no answer within {SECONDS} s")
        return Found(step, 0, late, late)
    if done.returncode:
        raise RuntimeError(f"{step}: {done.stderr.strip()[-2000:]}")
    found = read(json.loads(done.stdout.splitlines()[-1]))
    if "ModuleNotFoundError" in found.recorded.refusal:
        raise ModuleNotFoundError(found.recorded.refusal)
    return found


def read(told: dict[str, Any]) -> Found:
    """What `asdict` made plain data of."""
    recorded, virtual = (each and Answered(**each) for each in (told["recorded"], told["virtual"]))
    return Found(told["step"], told["batch"], recorded, virtual)


def table(found: Sequence[Found]) -> str:
    """One row per step, as Markdown."""
    answered = sum(not each.recorded.refusal for each in found)
    near = [each for each in found if each.differences and max(map(abs, each.differences)) <= MOST]
    both = [each for each in found if each.differences]
    heads = ["step", "batch, recorded", "batch, virtual card", "peak, recorded", "peak, virtual card", "difference"]
    lines = [
        f"{answered} of {len(found)} steps are answered by recording; of {len(both)} that both answer, {len(near)} "
        f"peaks are within {MOST:.0%}. Peaks are reserved MiB of {CARD.name} at the smaller of the two batches.",
        "",
        markdown(heads, [_row(each) for each in found]),
    ]
    notes = {short(each.step): what for each in found if (what := _note(each, each in near))}
    lines += ["", *(f"* {name}: {what}" for name, what in notes.items())]
    return "\n".join(lines)


def _row(found: Found) -> list[str]:
    answers = [found.recorded, found.virtual or Answered(refusal="not installed")]
    batches = ["refused" if each.batch is None else f"{each.batch:,}" for each in answers]
    peaks = [f"{each.reserved_bytes / MiB:,.0f}" if each.reserved_bytes else "" for each in answers]
    return [short(found.step), *batches, *peaks, f"{found.differences[1]:+.2%}" if found.differences else ""]


def _note(found: Found, is_near: bool) -> str:
    refusals = [found.recorded.refusal, found.virtual.refusal if found.virtual else ""]
    if any(refusals):
        who = ("recording", "virtual card")
        return "; ".join(f"{name}: {what}" for name, what in zip(who, refusals, strict=True) if what)
    return "" if is_near else KNOWN.get(short(found.step), "not yet explained")


if __name__ == "__main__":
    print(json.dumps(asdict(ask(sys.argv[1]))))
