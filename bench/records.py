"""Records: the versioned JSON result of one stage of one cell, part by part."""

from __future__ import annotations

import datetime
import math
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from bench.names import Key, Name, RelativeName

Stage = Literal["memory", "profile", "timing", "accuracy"]
"""What a run measures of each cell, in this order."""

FULL_SIZE: tuple[Stage, ...] = ("memory", "profile")
"""Stages that are always at the configuration's own sizes; a preset may change those of the others."""

Metric = Literal["image", "real", "magnitude"]
"""What PSNR and SSIM are taken of: all channels; of a complex image its real channel alone, or its magnitude."""

Range = Literal["fixed", "image", "volume"]
"""The range of PSNR and SSIM: the set's, or what the true image, or its volume, has between its least and largest."""

Window = Literal["gaussian", "uniform"]
"""Of SSIM: Gaussian of sigma 1.5 as published, or scikit-image's default of 7 x 7, which fastMRI takes."""

Bound = Literal["exact", "high", "low"]
"""The temporaries inside kernels: as they are (measured, or told by cuDNN), the most they can take, or nothing."""


Count = Annotated[int, Field(ge=0, le=2**53)]
"""Bytes, images, parameters, events: no more than every reader of JSON and every table holds exactly."""

Positive = Annotated[int, Field(ge=1, le=2**53)]

Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""What a step or an evaluation took: it never takes no time."""

Elapsed = Annotated[float, Field(ge=0, le=1e9)]
"""Seconds that may be too short to tell."""

Repeats = Annotated[list[Seconds], Field(min_length=1)]
"""Seconds of a run, one number per repeat."""


def _from_text(value: object) -> object:
    """JSON has no infinity: it stands there as text."""
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _is_psnr(value: float) -> float:
    if not abs(value) < 10_000 and value != math.inf:
        raise ValueError("a PSNR is a number below 10,000, or Infinity of an image that is reconstructed exactly")
    return value


AnyFloat = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_from_text)]
"""A float that may be infinite or no number."""

PsnrDb = Annotated[AnyFloat, AfterValidator(_is_psnr)]
"""A PSNR in dB; infinite where the reconstruction is the image, to the last bit."""


_TIME = TypeAdapter(AwareDatetime)


def _time(text: str) -> str:
    _TIME.validate_python(text)
    return text


class _Part(BaseModel):
    """What is written can be read: every float is finite, or of a type that says otherwise and written as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="strings")


class Provenance(_Part):
    """Where a record comes from."""

    bench: str
    source: str
    commit: str | None
    torch: str
    python: str
    platform: str
    created: Annotated[str, AfterValidator(_time)]

    @property
    def made(self) -> datetime.datetime:
        """When it was made, by the clock of the machine that made it."""
        return _TIME.validate_python(self.created)


class Parameters(_Part):
    """Parameters of the architecture: those that train, and as the paper's Table 3 counts them."""

    trainable: Count
    paper: Count


class Edge(_Part):
    """The largest batch that fits (0: none) under one bound of the kernels' temporaries, and what it takes.

    `fallbacks` counts convolutions that ran with another configuration than cuDNN's first choice, for want of memory.
    """

    largest_batch: Count
    peak_allocated_bytes: Count | None
    peak_reserved_bytes: Count | None
    retries: Count | None
    fallbacks: Count | None
    not_fitting: list[Count]
    monotone: bool


class OnVirtualCard(_Part):
    """What a step did on the virtual card that a real card would answer otherwise.

    Attributes:
        kernels_of: the card whose kernels ran: another one where the card is no more than a capacity.
        values_read: copies to the host in a step (`.item()`), which are zeros.
        selections: kernels of a step that select by value (`nonzero`, `x[mask]`), whose outputs are empty.
        lower_bounds: functions whose buffers were taken as 0 bytes.
    """

    kernels_of: Name
    values_read: Count
    selections: Count
    lower_bounds: list[str]


class CardResult(_Part):
    """One card's answers: under each bound of the kernels' temporaries that the engine could compute.

    There is the exact answer, or both others. `cudnn` is the version whose workspaces the exact one is computed with.
    `virtual` is what the virtual card did otherwise than a real one, where that answered.
    """

    card: Name
    total_bytes: Positive
    context_bytes: Count
    usable_bytes: Positive
    cudnn: str | None
    edges: dict[Bound, Edge]
    virtual: OnVirtualCard | None = None

    @model_validator(mode="after")
    def _is_an_answer(self) -> CardResult:
        if "exact" not in self.edges and not {"high", "low"} <= self.edges.keys():
            raise ValueError("edges: expected exact, or high and low")
        return self

    def edge(self, otherwise: Bound) -> tuple[Bound, Edge]:
        """The exact answer if there is one, else the one of a bound; and which it is."""
        bound: Bound = "exact" if "exact" in self.edges else otherwise
        return bound, self.edges[bound]


class Memory(_Part):
    """The memory of a cell: per card, and what is common to all cards."""

    engine: Literal["simulated", "cuda", "virtual"]
    recorded_steps: Count
    recorded_evaluations: Count | None
    events: Count
    operator_bytes: Count
    parameter_bytes: Count
    peak_bytes_per_image: dict[Bound, Count]
    cards: list[CardResult] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_each_card_once_and_both_bounds(self) -> Memory:
        if len({card.card for card in self.cards}) < len(self.cards):
            raise ValueError("cards: expected each once")
        if not {"high", "low"} <= self.peak_bytes_per_image.keys():
            raise ValueError("peak_bytes_per_image: expected high and low")
        return self


CATEGORIES = (
    "parameters",
    "buffers",
    "optimiser state",
    "gradients",
    "batch",
    "saved activations",
    "temporaries",
    "workspace",
    "rounding",
    "fragmentation",
)
"""What reserved memory is taken by, as bench.memory.explaining.explain has it."""


def _known(category: str) -> str:
    if category not in CATEGORIES:
        raise ValueError(f"{category!r} is no category of memory")
    return category


Category = Annotated[str, AfterValidator(_known)]


class Composition(_Part):
    """What the peak of one batch is made of (where the batch does not fit: what is held when memory runs out).

    Attributes:
        batch: images.
        peak_allocated_bytes: the most in blocks at any time.
        peak_reserved_bytes: the most in segments at any time; the sum of `size_bytes`.
        size_bytes: by category (bench.memory.explaining.explain), and by module and operation.
        places: the same groups' lines in the sources, those of the most bytes first. A baseline does not store them:
            they move with every edit.
    """

    batch: Positive
    peak_allocated_bytes: Count
    peak_reserved_bytes: Count
    size_bytes: dict[Category, dict[str, Count]]
    places: dict[str, dict[str, list[str]]] = {}


class Span(_Part):
    """A phase of a step, by its events [start, stop)."""

    phase: str
    start: Count
    stop: Count


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

    step: Count
    events: Positive
    at: list[Count] = Field(min_length=1)
    size_bytes: dict[Category, list[Count]] = Field(min_length=1)
    phases: list[Span]
    moment: Count
    operation: str
    place: str

    @model_validator(mode="after")
    def _is_drawable(self) -> StepTimeline:
        if any(len(sizes) != len(self.at) for sizes in self.size_bytes.values()):
            raise ValueError("size_bytes: expected as many of each category as events in at")
        if any(later <= sooner for sooner, later in pairwise([*self.at, self.events])):
            raise ValueError("at: expected events of the step in their order")
        if not self.at[0] <= self.moment < self.events:
            raise ValueError("moment: expected an event of the step, not before the first of at")
        return self


class Profile(_Part):
    """What a cell's memory is taken by on one card, simulated: at the largest batch that fits, or at 1 if none does.

    `workspace` says which temporaries inside kernels are assumed. `reference` is the composition at the same batch for
    every cell and card, where memory is no limit: what two versions of a network are compared by.
    """

    card: Name
    total_bytes: Positive
    context_bytes: Count
    usable_bytes: Positive
    workspace: Bound
    fits: bool
    composition: Composition
    timeline: StepTimeline
    reference: Composition

    @model_validator(mode="after")
    def _has_something_in_it(self) -> Profile:
        for made_of in (self.composition, self.reference):
            if not made_of.peak_reserved_bytes or not any(made_of.size_bytes.values()):
                raise ValueError("expected compositions of something")
        return self


class Calls(_Part):
    """How often the operator was applied to a batch: A and A^T."""

    forward: Count
    adjoint: Count


class Timing(_Part):
    """Seconds of training steps and of evaluations on a batch, one number per repeat; and what one of each does.

    `solver_evaluations` is the mean over a training step's fixed points and images, `backward_evaluations` that of
    the solves for the gradient; None where there are none. `batch_chosen` says how the batch came about.
    `peak_bytes_per_image` is what one more image adds to the step's peak on a GPU, recorded of the very network that is
    timed; None in records from before it was.
    """

    device: str
    threads: Positive | None
    batch: Positive
    batch_chosen: Literal["stated", "largest"]
    training_step_seconds: Repeats
    evaluation_seconds: Repeats
    training_calls: Calls
    evaluation_calls: Calls
    solver_evaluations: float | None
    backward_evaluations: float | None
    peak_bytes_per_image: dict[Bound, Count] | None = None


class DataSets(_Part):
    """The images of a training: how many, and of how many patients, volumes, photographs or phantoms.

    `data_range` is that of PSNR and SSIM where it is fixed, else its mean over the test images; `range` says which, and
    `metric` what they are taken of. `acceleration` is the true one of MRI: columns over measured columns.
    `measured_by` are the options in which the operator that measured differs from the one that reconstructs.
    """

    name: str
    train_images: Count
    train_subjects: Count
    validation_images: Count
    test_images: Count
    test_subjects: Count
    data_range: float = Field(gt=0, allow_inf_nan=False)
    metric: Metric
    range: Range = "fixed"
    ssim: Window = "gaussian"
    acceleration: float | None = None
    measured_by: dict[str, Any] = {}


class Solves(_Part):
    """What became of the solves for fixed points, one for each image and fixed point.

    Attributes:
        count: of solves.
        converged: of them, those whose relative residual came within the tolerance.
        worst_residual: the largest relative residual at which one ended.
    """

    count: Positive
    converged: Count
    worst_residual: AnyFloat

    @property
    def share(self) -> float:
        """The share of the solves that found their fixed point."""
        return self.converged / self.count


class Point(_Part):
    """A training at one of its steps; `solver_*` are means over images and fixed points, None where there are none.

    `solver_converged` is the share of the solves that came within the tolerance: only there is an implicit gradient the
    exact one. The validation's PSNR is known at some steps only. `gradient_norm` is that before clipping.
    """

    step: Count
    loss: float
    gradient_norm: float
    solver_evaluations: float | None
    solver_residual: AnyFloat | None
    solver_converged: float | None = None
    validation_psnr_db: PsnrDb | None = None


class Training(_Part):
    """One training: its curve, and the test images' PSNR and SSIM, image by image.

    `status` "diverged" carries its `reason`, the curve before it, and no metrics. `training_seconds` is that of the
    steps, loading included, without validation and checkpoints; `evaluation_seconds` that of all test images together.
    A classical method has no curve, and its training is the choice of its parameter. `test_solves` is what became of
    the fixed points of the test images, where there are any, and `worst_gap` the largest relative duality gap at which
    a classical method that minimises something ended.
    """

    seed: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    curve: list[Point]
    psnr_db: list[PsnrDb]
    ssim: list[float]
    training_seconds: Elapsed
    evaluation_seconds: Elapsed
    test_solves: Solves | None = None
    worst_gap: AnyFloat | None = None

    @model_validator(mode="after")
    def _is_judged_if_it_ended(self) -> Training:
        images = len(self.psnr_db) if self.status == "ok" else 0
        if len(self.psnr_db) != images or len(self.ssim) != images or (self.status == "ok" and not images):
            raise ValueError(
                f'status "{self.status}" with {len(self.psnr_db)} PSNR and {len(self.ssim)} SSIM: expected one of each '
                "test image where the training came to its end, and none where it diverged"
            )
        if (self.reason is None) != (self.status == "ok"):
            raise ValueError("expected the reason of a training that diverged, and of no other")
        return self


class Accuracy(_Part):
    """The accuracy of a cell: one training per seed.

    `reconstructions` names the file, relative to the output folder, with the first test images' as the first training
    that came to its end gives them. `chosen` is what a classical method's validation images chose: "iterations" of
    gradient descent, "weight" of total variation.
    """

    device: str
    threads: Positive | None
    data: DataSets
    trainings: list[Training] = Field(min_length=1)
    reconstructions: RelativeName | None
    chosen: dict[str, float] = {}

    @model_validator(mode="after")
    def _is_judged_on_the_same_images(self) -> Accuracy:
        images = {len(training.psnr_db) for training in self.trainings if training.status == "ok"}
        if len(images) > 1:
            raise ValueError(f"trainings with {' and '.join(map(str, sorted(images)))} test images: expected the same")
        return self


class _Setting(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class _Solver(_Setting):
    max_evaluations: Count


class _Model(_Setting):
    stages: Count
    solver: _Solver
    gradient: str


class _Task(_Setting):
    operator: str


class _Losses(_Setting):
    loss: str


class _Memory(_Setting):
    steps: Count
    alloc_conf: str


class _MemoryStage(_Memory):
    engine: str


class _AccuracyStage(_Setting):
    steps: Count


class _Settings(_Setting):
    """What tables, pictures and comparisons take from a record's settings, which may have more."""

    model: _Model
    task: _Task
    training: _Losses


class _OfMemory(_Settings):
    memory: _MemoryStage


class _OfProfile(_Settings):
    memory: _Memory


class _OfAccuracy(_Settings):
    accuracy: _AccuracyStage


_SETTINGS: dict[Stage, type[_Settings]] = {
    "memory": _OfMemory,
    "profile": _OfProfile,
    "timing": _Settings,
    "accuracy": _OfAccuracy,
}


class Record(_Part):
    """The result of one stage of one cell. `status` "failed" carries its `reason` and no results.

    `preset` and `image_shape` are the sizes it was measured at; those of the stages timing and accuracy may be reduced.
    `format` is the version of this layout. 1: memory only. 2: one record per stage.
    `sequence` grows from each of a cell's records in a folder to the next, whatever the clock says; 0: not counted.
    """

    format: Literal[2] = 2
    sequence: Count = 0
    key: Key
    stage: Stage
    preset: str | None
    image_shape: tuple[Positive, ...] | None = None
    architecture: Name
    task: Name
    paper_task: str | None
    settings: dict[str, Any]
    status: Literal["ok", "failed"]
    reason: str | None = None
    seconds: Elapsed
    parameters: Parameters | None = None
    memory: Memory | None = None
    profile: Profile | None = None
    timing: Timing | None = None
    accuracy: Accuracy | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _is_a_result_or_a_failure(self) -> Record:
        has = {stage for stage in get_args(Stage) if getattr(self, stage) is not None}
        if has != ({self.stage} if self.status == "ok" else set()):
            raise ValueError(f"{self.status}: expected {self.stage if self.status == 'ok' else 'no results'}")
        if (self.reason is None) != (self.status == "ok"):
            raise ValueError("expected the reason of what failed, and of nothing else")
        if self.memory is not None and self.parameters is None:
            raise ValueError("expected parameters beside memory")
        try:
            _SETTINGS[self.stage].model_validate(self.settings)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"settings.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return self

    @property
    def cell(self) -> tuple[str, str, Stage]:
        """Task, architecture and stage."""
        return self.task, self.architecture, self.stage

    def card(self, name: str) -> CardResult | None:
        """The answer for one card, if the record has it."""
        return next((card for card in self.memory.cards if card.card == name), None) if self.memory else None


def united(earlier: Record, later: Record) -> Record:
    """What two records of the same cell and key come to: the later one, with the cards that it does not answer for.

    A failure does not take the place of a result.
    """
    if earlier.memory and later.memory:
        cards = {card.card: card for card in (*earlier.memory.cards, *later.memory.cards)}
        return later.model_copy(update={"memory": later.memory.model_copy(update={"cards": list(cards.values())})})
    return earlier if (earlier.status, later.status) == ("ok", "failed") else later


class Peak(_Part):
    """Peaks of one batch in bytes, and what it cost to fit."""

    batch: Positive
    fits: bool
    allocated_bytes: Count
    reserved_bytes: Count
    retries: Count
    fallbacks: Count


class Row(_Part):
    """One cell under one cap: predicted and measured edge, and the peaks of every batch that was run.

    `events` says what the recording and the virtual card have in common at the measured edge, and what each has alone
    (bench.virtual.comparison.Difference.summary); it is empty where a GPU answered.
    """

    architecture: str
    task: str
    cap: str
    key: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    usable_bytes: Count
    workspaces: str
    predicted_batch: Count
    measured_batch: Count | None = None
    predicted: list[Peak] = []
    measured: list[Peak] = []
    measurements: list[dict[str, Any]] = []
    events: dict[str, Count] = {}
    seconds: Elapsed

    @property
    def agrees(self) -> bool:
        """Whether the predicted largest batch is the measured one."""
        return self.measured_batch == self.predicted_batch

    def error(self, what: Literal["allocated_bytes", "reserved_bytes"]) -> float | None:
        """Signed relative error of the predicted peak at the measured edge (or at batch 1 where none fits)."""
        at = max(self.measured_batch or 0, 1)
        predicted = next((peak for peak in self.predicted if peak.batch == at), None)
        measured = next((peak for peak in self.measured if peak.batch == at), None)
        if not predicted or not measured or not measured.fits or not predicted.fits or not getattr(measured, what):
            return None
        return float(getattr(predicted, what) / getattr(measured, what)) - 1


class Validation(_Part):
    """All rows of one GPU."""

    format: Literal[1] = 1
    device: str
    rows: list[Row] = []
    provenance: Provenance
