"""bench.toml: read, completed from the default suite, and checked as a whole.

Every unknown key and wrong value is reported at once, each with its place in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

import bench
from bench.errors import UsageError
from bench.memory.allocator import AllocatorConfig
from bench.models.architectures.base import ModelOptions
from bench.models.implicit import gradient_called
from bench.records import Metric, Stage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "bench.toml"

Classical = Literal["initialisation", "gradient descent", "total variation"]
"""What stands beside the trained architectures, untrained."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteSection(_Section):
    """[suite]: what a run measures, of which cells, and on which cards.

    `preset` changes the sizes of the stages timing and accuracy; "auto" is "demo" on a CPU and "paper" on a GPU.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    preset: str
    architectures: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    gpu_caps: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


class TrainingSection(_Section):
    """[training]: the loss and the optimiser of a step, the same in every stage.

    Gradients are clipped at a norm of `clip_gradient_norm`; 0 leaves them as they are.
    """

    loss: Literal["final", "auxiliary"]
    learning_rate: float = Field(gt=0)
    clip_gradient_norm: float = Field(ge=0)


class MemorySection(_Section):
    """[memory]: what answers, how a step is recorded, and which bound the table shows."""

    engine: Literal["simulated", "cuda", "virtual"]
    steps: int = Field(ge=2)
    workspace: Literal["high", "low"]
    alloc_conf: str
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

    device: Literal["auto", "cpu", "cuda"]
    batch: PositiveInt | Literal["largest"]
    warmup: int = Field(ge=1)
    repeats: int = Field(ge=3)
    seconds_per_quantity: float = Field(gt=0)


class AccuracySection(_Section):
    """[accuracy]: how an architecture is trained and evaluated.

    Attributes:
        device: "auto" is a GPU where there is one.
        threads: of one training on a CPU; the same number gives the same result bit for bit.
        steps: optimiser steps of a training.
        batch: images of a step.
        schedule: of the learning rate over the steps.
        gradient: through fixed points, if it is not that of [model].
        seeds: one training each; the first one's reconstructions are kept.
        validate_every: steps between two looks at the validation images.
        checkpoint_every: steps between two checkpoints.
        validation_images: how many of them, at most.
        test_images: how many of them, at most.
        classical: methods without training that get a row of their own.
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    schedule: Literal["constant", "cosine"]
    gradient: str | None = None
    seeds: tuple[int, ...] = Field(min_length=1)
    validate_every: PositiveInt
    checkpoint_every: PositiveInt
    validation_images: PositiveInt
    test_images: PositiveInt
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
    """Noise of the measurements: standard deviation, and photons per detector cell (Radon only)."""

    sigma: float = Field(default=0.0, ge=0)
    photons: float | None = Field(default=None, gt=0)


class Task(_Section):
    """[task.NAME]: an operator with its options, the paper's name for it; noise and images of the accuracy stage.

    `metric` is what PSNR and SSIM are taken of: "real" and "magnitude" are for complex images (mri).
    `stands_for` names tasks that memory and time do not tell apart: the accuracy stage has them in this one's place.
    """

    operator: str
    options: dict[str, Any] = {}
    paper: str | None = None
    stands_for: tuple[str, ...] = ()
    noise: NoiseSection = NoiseSection()
    data: str | None = None
    metric: Metric = "image"
    data_options: dict[str, Any] = {}


class Config(_Section):
    """A whole bench.toml."""

    suite: SuiteSection
    model: ModelOptions
    training: TrainingSection
    memory: MemorySection
    timing: TimingSection
    accuracy: AccuracySection
    check: CheckSection
    task: dict[str, Task]
    preset: dict[str, dict[str, Any]] = {}


def default_path() -> Path:
    """The default suite, which travels inside the package (in a checkout without links: beside it)."""
    return Path(bench.__path__[-1]) / FILE_NAME


def load(
    path: Path | None = None, given: Mapping[str, Mapping[str, object]] | None = None, preset: str | None = None
) -> Config:
    """Read `path`, or bench.toml in the working folder, or the default suite.

    The preset, if one is named, is laid upon it. What `given` has, section by section, that is not None replaces the
    keys of those sections in the end, as options of a command do.

    Raises:
        UsageError: no such file, not TOML, an unknown preset, or unknown keys and wrong values (all of them, with
            their places).
    """
    if path is None and Path(FILE_NAME).exists():
        path = Path(FILE_NAME)
    values = _read(default_path())
    if path is not None:
        values = _merge(values, _read(path))
    if preset is not None:
        values = _with_preset(values, preset)
    for section, keys in (given or {}).items():
        values = _merge(values, {section: {key: value for key, value in keys.items() if value is not None}})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        places = "; ".join(_sentence(detail) for detail in error.errors())
        laid_upon = f" with preset {preset}" if preset else ""
        raise UsageError(f"{path or default_path()}{laid_upon}: {places}") from error


def _with_preset(values: dict[str, Any], name: str) -> dict[str, Any]:
    presets = values.get("preset", {})
    if name not in presets:
        raise UsageError(f"unknown preset {name!r}: known are {', '.join(presets) or 'none'}")
    return _merge(values, {**presets[name], "suite": {"preset": name}}, whole_tasks=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no configuration file at {path}: give the path of a TOML file such as bench.toml") from None
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _merge(base: dict[str, Any], over: Mapping[str, Any], *, whole_tasks: bool = True) -> dict[str, Any]:
    """`over` laid upon `base`, table by table; with `whole_tasks` a task given anew replaces the one of its name."""
    merged = dict(base)
    for key, value in over.items():
        if key == "task" and isinstance(value, dict) and whole_tasks:
            merged[key] = {**base[key], **value}
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value, whole_tasks=whole_tasks)
        else:
            merged[key] = value
    return merged


def _sentence(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {place}"
    return f"{place}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r})"
