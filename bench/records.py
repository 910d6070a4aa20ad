"""Records: the versioned JSON result of one cell, and the folder that keeps them.

A record is on disk, whole, before the next cell starts: it is written beside its place and moved into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bench.errors import StorageError, UsageError

Stage = Literal["memory", "profile", "timing", "accuracy"]
"""What a run measures of each cell, in this order."""

FULL_SIZE: tuple[Stage, ...] = ("memory", "profile")
"""Stages that are always at the configuration's own sizes; a preset may change those of the others."""

Metric = Literal["image", "real", "magnitude"]
"""What PSNR and SSIM are taken of: all channels; of a complex image its real channel alone, or its magnitude."""

Bound = Literal["exact", "high", "low"]
"""The temporaries inside kernels: as they are (measured, or told by cuDNN), the most they can take, or nothing."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Part):
    """Where a record comes from."""

    bench: str
    source: str
    commit: str | None
    torch: str
    python: str
    platform: str
    created: str


class Parameters(_Part):
    """Parameters of the architecture: those that train, and as the paper's Table 3 counts them."""

    trainable: int
    paper: int


class Edge(_Part):
    """The largest batch that fits (0: none) under one bound of the kernels' temporaries, and what it takes.

    `fallbacks` counts convolutions that ran with another configuration than cuDNN's first choice, for want of memory.
    """

    largest_batch: int
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    retries: int | None
    fallbacks: int | None
    not_fitting: list[int]
    monotone: bool


class CardResult(_Part):
    """One card's answers: under each bound of the kernels' temporaries that the engine could compute.

    `cudnn` is the version whose workspaces the exact answer is computed with.
    """

    card: str
    total_bytes: int
    context_bytes: int
    usable_bytes: int
    cudnn: str | None
    edges: dict[Bound, Edge]

    def edge(self, otherwise: Bound) -> tuple[Bound, Edge]:
        """The exact answer if there is one, else the one of a bound; and which it is."""
        bound: Bound = "exact" if "exact" in self.edges else otherwise
        return bound, self.edges[bound]


class Memory(_Part):
    """The memory of a cell: per card, and what is common to all cards."""

    engine: Literal["simulated", "cuda"]
    recorded_steps: int
    recorded_evaluations: int | None
    events: int
    operator_bytes: int
    parameter_bytes: int
    peak_bytes_per_image: dict[Bound, int]
    cards: list[CardResult]


class Composition(_Part):
    """What the peak of one batch is made of (where the batch does not fit: what is held when memory runs out).

    Attributes:
        batch: images.
        peak_allocated_bytes: the most in blocks at any time.
        peak_reserved_bytes: the most in segments at any time; the sum of `size_bytes`.
        size_bytes: by category (bench.memory.explain), and by module and operation.
        places: the same groups' lines in the sources, those of the most bytes first. A baseline does not store them:
            they move with every edit.
    """

    batch: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    size_bytes: dict[str, dict[str, int]]
    places: dict[str, dict[str, list[str]]] = {}


class Span(_Part):
    """A phase of a step, by its events [start, stop)."""

    phase: str
    start: int
    stop: int


class StepTimeline(_Part):
    """Memory over one training step, whose allocations and frees are counted from 0.

    Attributes:
        step: which step, from 1; 0 is what comes before the first.
        events: allocations and frees of the step.
        at: some of them: of each of as many stretches the one with the most allocated, so that no peak is lost.
        size_bytes: by category, from the bottom up, after each event of `at`; together they are what is reserved.
        phases: of the step, in order.
        moment: the event with the most allocated, or at which memory runs out.
        operation: that made it.
        place: its line in the sources, after the one of another file that led there.
    """

    step: int
    events: int
    at: list[int]
    size_bytes: dict[str, list[int]]
    phases: list[Span]
    moment: int
    operation: str
    place: str


class Profile(_Part):
    """What a cell's memory is taken by on one card, simulated: at the largest batch that fits, or at 1 if none does.

    `workspace` says which temporaries inside kernels are assumed. `reference` is the composition at the same batch for
    every cell and card, where memory is no limit: what two versions of a network are compared by.
    """

    card: str
    total_bytes: int
    context_bytes: int
    usable_bytes: int
    workspace: Bound
    fits: bool
    composition: Composition
    timeline: StepTimeline
    reference: Composition


class Calls(_Part):
    """How often the operator was applied to a batch: A and A^T."""

    forward: int
    adjoint: int


class Timing(_Part):
    """Seconds of training steps and of evaluations on a batch, one number per repeat; and what one of each does.

    `solver_evaluations` is the mean over a training step's fixed points and images, `backward_evaluations` that of
    the solves for the gradient; None where there are none. `batch_chosen` says how the batch came about.
    """

    device: str
    threads: int | None
    batch: int
    batch_chosen: Literal["stated", "largest"]
    training_step_seconds: list[float]
    evaluation_seconds: list[float]
    training_calls: Calls
    evaluation_calls: Calls
    solver_evaluations: float | None
    backward_evaluations: float | None


class DataSets(_Part):
    """The images of a training: how many, and of how many patients, volumes, photographs or phantoms.

    `data_range` is that of PSNR and SSIM, `metric` what they are taken of.
    """

    name: str
    train_images: int
    train_subjects: int
    validation_images: int
    test_images: int
    test_subjects: int
    data_range: float
    metric: Metric


class Point(_Part):
    """A training at one of its steps; `solver_*` are means over images and fixed points, None where there are none.

    The validation's PSNR is known at some steps only. `gradient_norm` is that before clipping.
    """

    step: int
    loss: float
    gradient_norm: float
    solver_evaluations: float | None
    solver_residual: float | None
    validation_psnr_db: float | None = None


class Training(_Part):
    """One training: its curve, and the test images' PSNR and SSIM, image by image.

    `status` "diverged" carries its `reason`, the curve before it, and no metrics. `training_seconds` is that of the
    steps, loading included, without validation and checkpoints; `evaluation_seconds` that of all test images together.
    A classical method has no curve, and its training is the choice of its parameter.
    """

    seed: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    curve: list[Point]
    psnr_db: list[float]
    ssim: list[float]
    training_seconds: float
    evaluation_seconds: float


class Accuracy(_Part):
    """The accuracy of a cell: one training per seed.

    `reconstructions` names the file, relative to the output folder, with the first test images' as the first training
    that came to its end gives them. `chosen` is what a classical method's validation images chose: "iterations" of
    gradient descent, "weight" of total variation.
    """

    device: str
    threads: int | None
    data: DataSets
    trainings: list[Training]
    reconstructions: str | None
    chosen: dict[str, float] = {}


class Record(_Part):
    """The result of one stage of one cell. `status` "failed" carries its `reason` and no results.

    `preset` and `image_shape` are the sizes it was measured at; those of the stages timing and accuracy may be reduced.
    `format` is the version of this layout. 1: memory only. 2: one record per stage.
    """

    format: Literal[2] = 2
    key: str
    stage: Stage
    preset: str | None
    image_shape: tuple[int, ...] | None = None
    architecture: str
    task: str
    paper_task: str | None
    settings: dict[str, Any]
    status: Literal["ok", "failed"]
    reason: str | None = None
    seconds: float
    parameters: Parameters | None = None
    memory: Memory | None = None
    profile: Profile | None = None
    timing: Timing | None = None
    accuracy: Accuracy | None = None
    provenance: Provenance

    def card(self, name: str) -> CardResult | None:
        """The answer for one card, if the record has it."""
        return next((card for card in self.memory.cards if card.card == name), None) if self.memory else None


class Peak(_Part):
    """Peaks of one batch in bytes, and what it cost to fit."""

    batch: int
    fits: bool
    allocated_bytes: int
    reserved_bytes: int
    retries: int
    fallbacks: int


class Row(_Part):
    """One cell under one cap: predicted and measured edge, and the peaks of every batch that was run."""

    architecture: str
    task: str
    cap: str
    key: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    usable_bytes: int
    workspaces: str
    predicted_batch: int
    measured_batch: int | None = None
    predicted: list[Peak] = []
    measured: list[Peak] = []
    measurements: list[dict[str, Any]] = []
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether the predicted largest batch is the measured one."""
        return self.measured_batch == self.predicted_batch

    def error(self, what: Literal["allocated_bytes", "reserved_bytes"]) -> float | None:
        """Signed relative error of the predicted peak at the measured edge (or at batch 1 where none fits)."""
        at = max(self.measured_batch or 0, 1)
        predicted = next((peak for peak in self.predicted if peak.batch == at), None)
        measured = next((peak for peak in self.measured if peak.batch == at), None)
        if not predicted or not measured or not measured.fits or not predicted.fits:
            return None
        return float(getattr(predicted, what) / getattr(measured, what)) - 1


class Validation(_Part):
    """All rows of one GPU."""

    format: Literal[1] = 1
    device: str
    rows: list[Row] = []
    provenance: Provenance


class RecordStore:
    """A folder with one JSON file per record, named after task, architecture, stage and key."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Open `folder`, making it where it does not exist.

        Raises:
            UsageError: it cannot be made or written to.
        """
        self.folder = folder
        self._warn = warn
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error

    def path(self, task: str, architecture: str, stage: Stage, key: str) -> Path:
        """Where the record of a cell's stage stands."""
        return self.folder / f"{task}--{architecture}--{stage}--{key}.json"

    def load(self, task: str, architecture: str, stage: Stage, key: str) -> Record | None:
        """The stored record, or None. A damaged file is set aside with a warning, not lost and not trusted."""
        path = self.path(task, architecture, stage, key)
        try:
            record = Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            aside = path.with_suffix(".json.damaged")
            path.replace(aside)
            first = error.errors()[0]
            self._warn(
                f"{path.name} is damaged ({first['msg']}): set aside as {aside.name}, its cell is measured again"
            )
            return None
        return record

    def save(self, record: Record) -> None:
        """Write a record whole or not at all.

        Raises:
            StorageError: the disk is full or the folder no longer writable; what stood there before stands still.
        """
        write_atomically(
            self.path(record.task, record.architecture, record.stage, record.key),
            record.model_dump_json(indent=1) + "\n",
        )


def read_records(folder: Path) -> list[Record]:
    """All records of a run's output folder (or of its folder `records`), in the order in which they were made.

    Of several records of the same task, architecture, stage and settings, the newest is kept.

    Raises:
        UsageError: there is no such folder, it has no records, or one of them is damaged or of another format.
    """
    inner = folder / "records"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.json"))
    if not paths:
        raise UsageError(f"no records in {folder}: give the output folder of `bench run`")
    records = sorted((read_record(path) for path in paths), key=lambda record: record.provenance.created)
    newest = {
        (record.task, record.architecture, record.stage, json.dumps(record.settings, sort_keys=True)): record
        for record in records
    }
    return sorted(newest.values(), key=lambda record: record.provenance.created)


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        UsageError: it cannot be read, is damaged, or of another format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        ours = Record.model_fields["format"].default
        found = _format(content)
        if found is not None and found != ours:
            remedy = "update bench" if found > ours else "make it again with `bench run`"
            raise UsageError(
                f"{path} is a record of format {found}, and this bench reads format {ours}: {remedy}"
            ) from None
        first = error.errors()[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise UsageError(f"{path} is damaged ({what}): remove it or make it again with `bench run`") from error


def _format(content: bytes) -> int | None:
    """The format that a record says it has, if it can be read so far."""
    try:
        values = json.loads(content)
    except ValueError:
        return None
    found = values.get("format") if isinstance(values, dict) else None
    return found if isinstance(found, int) else None


def to_json(records: Sequence[Record]) -> str:
    """Records as one JSON list."""
    return TypeAdapter(Sequence[Record]).dump_json(records, indent=1).decode()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and never a part.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror}; what was stored before is intact") from error
