"""Records: the versioned JSON result of one stage of one cell, part by part."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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

    engine: Literal["simulated", "cuda", "virtual"]
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
