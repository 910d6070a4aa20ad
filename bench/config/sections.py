"""The sections of bench.toml: their keys, and the values that these take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench import models, plugins, strategies
from bench.choices import refusal
from bench.config.own_cards import OwnCard, cards_of
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.gpus import Card, card_of_capacity
from bench.memory.search import LARGEST_BATCH
from bench.models.implicit import gradient_called
from bench.names import Name
from bench.records import Measurements, Metric, Range, Stage, Window

Classical = Literal["initialisation", "filtered backprojection", "gradient descent", "total variation"]
"""What stands beside the trained architectures, untrained."""

Engine = Literal["simulated", "cuda", "virtual"]
Device = Literal["auto", "cpu", "cuda"]
Loss = Literal["final", "auxiliary"]
Bound = Literal["high", "low"]
Optimizer = Literal["adam", "adam-one-by-one", "sgd", "adafactor"]
Autocast = Literal["none", "bfloat16"]
MemoryFormat = Literal["contiguous", "channels_last"]
Activations = Literal["device", "host"]
Schedule = Literal["constant", "cosine"]
PaperTask = Literal["deblurring", "ct", "mri"]

# Bounds: far beyond what anybody measures, and near enough that a slip of the keyboard is found before the work.
Count = Annotated[int, Field(ge=1, le=10**9)]
"""Of steps or images."""
Batch = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""What torch.manual_seed takes and a table holds."""
MOST_TASKS = 1000


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SuiteSection(_Section):
    """[suite]: what a run measures, of which cells, and on which cards.

    `preset` changes the sizes of the stages timing and accuracy; "auto" is "demo" on a CPU and "paper" on a GPU.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    preset: str
    architectures: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    strategies: tuple[str, ...] = Field(default=(strategies.PLAIN,), min_length=1, max_length=1000)
    gpu_caps: tuple[str, ...] = Field(default=(), max_length=100)
    gpus: tuple[str, ...] = Field(default=(), max_length=100)

    @field_validator("architectures")
    @classmethod
    def _are_registered(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in models.names():
                raise ValueError(refusal("architecture", name, models.names()))
        return names

    @field_validator("strategies")
    @classmethod
    def _are_combinations(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(strategies.combination(text).name for text in texts))

    @field_validator("gpu_caps")
    @classmethod
    def _are_capacities(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(card_of_capacity(text).name for text in texts))


class TrainingSection(_Section):
    """[training]: the loss and the optimiser of a step, the same in every stage.

    Gradients are clipped at a norm of `clip_gradient_norm`; 0 leaves them as they are. `autocast` is the type of
    torch.autocast; `activations` where they wait for backward; a batch is trained in `micro_batches` equal parts.
    """

    loss: Loss
    learning_rate: float = Field(gt=0)
    clip_gradient_norm: float = Field(ge=0)
    optimizer: Optimizer = "adam"
    autocast: Autocast = "none"
    memory_format: MemoryFormat = "contiguous"
    activations: Activations = "device"
    micro_batches: int = Field(default=1, ge=1, le=1000)

    @property
    def told(self) -> dict[str, Any]:
        """The section as plain data, without those keys of later days that say nothing new."""
        return self.model_dump(exclude_defaults=True)


class MemorySection(_Section):
    """[memory]: what answers, how a step is recorded, and which bound the table shows."""

    engine: Engine
    steps: int = Field(ge=2, le=100)
    workspace: Bound
    alloc_conf: str = Field(max_length=1000)
    allow_tf32: bool
    deterministic: bool

    @field_validator("alloc_conf")
    @classmethod
    def _is_pytorchs(cls, text: str) -> str:
        AllocatorConfig.parse(text)
        return text


class TimingSection(_Section):
    """[timing]: where steps are timed, on how many images, how often.

    A quantity is measured `repeats` times after `warmup` runs that do not count; no more are begun after
    `seconds_per_quantity`, but three are made in any case.
    """

    device: Device
    batch: Batch | Literal["largest"]
    warmup: int = Field(ge=1, le=10_000)
    repeats: int = Field(ge=3, le=1_000_000)
    seconds_per_quantity: float = Field(gt=0, le=7 * 24 * 3600)


class AccuracySection(_Section):
    """[accuracy]: how an architecture is trained and evaluated.

    Attributes:
        device: "auto" is a GPU where there is one.
        threads: of one training on a CPU; the same number gives the same result bit for bit.
        steps: optimiser steps of a training.
        batch: images of a step.
        schedule: of the learning rate over the steps.
        losses: one training each of every architecture that has iterates before its last; none: that of [training].
        gradient: through fixed points, if it is not that of [model].
        denoiser_steps: of DEQ4IP: steps in which its network is trained as a denoiser beforehand, as the authors do.
        denoiser_sigma: standard deviation of the noise then.
        seeds: one training each; the first one's reconstructions are kept.
        validate_every: steps between two looks at the validation images.
        checkpoint_every: steps between two checkpoints.
        validation_images: how many of them, at most.
        test_images: how many of them, at most.
        classical: methods without training that get a row of their own.
    """

    device: Device
    threads: int = Field(ge=1, le=1024)
    steps: Count
    batch: Batch
    schedule: Schedule
    losses: tuple[Loss, ...] = ()
    gradient: str | None = None
    denoiser_steps: int = Field(default=0, ge=0, le=10**9)
    denoiser_sigma: float = Field(default=0.05, gt=0)
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000)
    validate_every: Count
    checkpoint_every: Count
    validation_images: Count
    test_images: Count
    classical: tuple[Classical, ...]

    @field_validator("gradient")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None:
            gradient_called(name)
        return name


class Limit(_Section):
    """How far a number may move, either way, before that counts as a change."""

    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=0.0, ge=0)

    def allows(self, before: float, after: float) -> float:
        """The larger of the two limits; the relative one is of the smaller number, so that both ways are alike."""
        return max(self.absolute, self.relative * min(abs(before), abs(after)))


class LimitsSection(_Section):
    """[check.limits]: one limit for each number that is compared; without an entry, every change counts."""

    largest_batch: Limit = Limit()
    peak_allocated_bytes: Limit = Limit()
    peak_reserved_bytes: Limit = Limit()
    peak_bytes_per_image: Limit = Limit()
    parameters: Limit = Limit()
    training_step_seconds: Limit = Limit()
    evaluation_seconds: Limit = Limit()
    psnr_db: Limit = Limit()
    diverged_trainings: Limit = Limit()


class CheckSection(_Section):
    """[check]: the baseline's file, and what counts as a change.

    Seconds change where their medians differ beyond the limit and a rank test gives p <= `significance`.
    """

    baseline: Path
    significance: float = Field(gt=0, lt=1)
    limits: LimitsSection


class NoiseSection(_Section):
    """Noise of the measurements: standard deviation, and photons per detector cell (Radon only; 0: no such noise)."""

    sigma: float = Field(default=0.0, ge=0)
    photons: float | None = Field(default=None, ge=0)

    @field_validator("photons")
    @classmethod
    def _none_is_none(cls, photons: float | None) -> float | None:
        return photons or None


class Task(_Section):
    """[task.NAME]: an operator with its options, the paper's name for it; noise and images of the accuracy stage.

    `measured_by` are options of the operator that measurements are made with, laid upon those that they are
    reconstructed with: a finer grid, another kernel. Without, both are one operator, which flatters every method alike.
    `measurements` are simulated, or the images' "own" where the set has such, to which no noise is added.
    `metric` is what PSNR and SSIM are taken of: "real" and "magnitude" are for complex images (mri). `range` is what
    they are relative to: the image set's, each image's, or its volume's; `ssim` the window of the latter.
    `stands_for` names tasks that memory and time do not tell apart: the accuracy stage has them in this one's place.
    """

    operator: str
    options: dict[str, Any] = {}
    paper: PaperTask | None = None
    stands_for: tuple[str, ...] = ()
    noise: NoiseSection = NoiseSection()
    measured_by: dict[str, Any] = {}
    measurements: Measurements = "simulated"
    data: str | None = None
    metric: Metric = "image"
    range: Range = "fixed"
    ssim: Window = "gaussian"
    data_options: dict[str, Any] = {}


class PluginsSection(_Section):
    """[plugins]: files and modules with architectures, operators and cards of one's own.

    `modules` are files, FILE.py, relative to the bench.toml that names them, or modules as Python imports them.
    """

    modules: tuple[str, ...] = Field(default=(), max_length=100)


class Config(_Section):
    """A whole bench.toml."""

    suite: SuiteSection
    model: models.Options
    training: TrainingSection
    memory: MemorySection
    timing: TimingSection
    accuracy: AccuracySection
    check: CheckSection
    task: dict[Name, Task] = Field(max_length=MOST_TASKS)
    cards: dict[Name, OwnCard] = Field(default={}, max_length=MOST_TASKS)
    plugins: PluginsSection = PluginsSection()
    preset: dict[str, dict[str, Any]] = Field(default={}, max_length=MOST_TASKS)

    @property
    def own_cards(self) -> list[Card]:
        """The cards that [cards] describes, and those of plugins."""
        return [*cards_of(self.cards), *plugins.cards(self.plugins.modules)]
