"""bench.toml: what it may say, completed from the default suite, and checked as a whole.

Every unknown key and wrong value is reported at once, each with the option or the file and line that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

import bench
from bench import data, models, operators, task_options, toml_file
from bench.choices import refusal, spelled
from bench.errors import UsageError
from bench.layers import Fault, Layer, blamed, is_another, laid_together, told, validated
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.gpus import Card, card_named, card_of_capacity
from bench.memory.search import LARGEST_BATCH
from bench.models.architectures.base import ModelOptions
from bench.models.implicit import GRADIENTS, gradient_called
from bench.names import Name
from bench.own_cards import OwnCard, canonical, cards_of
from bench.records import Metric, Range, Stage, Window
from bench.toml_file import Place, TomlFile, shown

FILE_NAME = "bench.toml"

Classical = Literal["initialisation", "filtered backprojection", "gradient descent", "total variation"]
"""What stands beside the trained architectures, untrained."""

Engine = Literal["simulated", "cuda", "virtual"]
Device = Literal["auto", "cpu", "cuda"]
Loss = Literal["final", "auxiliary"]
Bound = Literal["high", "low"]
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
    gpu_caps: tuple[str, ...] = Field(default=(), max_length=100)
    gpus: tuple[str, ...] = Field(default=(), max_length=100)

    @field_validator("architectures")
    @classmethod
    def _are_registered(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in models.names():
                raise ValueError(refusal("architecture", name, models.names()))
        return names

    @field_validator("gpu_caps")
    @classmethod
    def _are_capacities(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(card_of_capacity(text).name for text in texts))


class TrainingSection(_Section):
    """[training]: the loss and the optimiser of a step, the same in every stage.

    Gradients are clipped at a norm of `clip_gradient_norm`; 0 leaves them as they are.
    """

    loss: Loss
    learning_rate: float = Field(gt=0)
    clip_gradient_norm: float = Field(ge=0)


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
    data: str | None = None
    metric: Metric = "image"
    range: Range = "fixed"
    ssim: Window = "gaussian"
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
    task: dict[Name, Task] = Field(max_length=MOST_TASKS)
    cards: dict[Name, OwnCard] = Field(default={}, max_length=MOST_TASKS)
    preset: dict[str, dict[str, Any]] = Field(default={}, max_length=MOST_TASKS)

    @property
    def own_cards(self) -> list[Card]:
        """The cards that [cards] describes."""
        return cards_of(self.cards)


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
    files = [toml_file.read(each) for each in (default_path(), path) if each is not None]
    _forget_replaced_tasks(files)
    plain = [Layer(file.values, file.where) for file in files]
    chosen = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in (given or {}).items()
    }
    for keys in chosen.values():
        _refuse_broken_text(keys)
    options = Layer(chosen, lambda place: option_of(str(place[1])))
    presets = list(dict.fromkeys(name for file in files for name in _table(file.values, "preset")))
    if preset is None:
        laid = [*plain, options]
    else:
        known = spelled(preset, presets)
        if known not in presets:
            raise UsageError(f"--preset: {refusal('preset', preset, presets)}")
        laid = [*plain, *_of_preset(files, known), options]
    config, found = _checked(laid, presets)
    sentences = [told(fault, laid) for fault in found]
    if preset is None:  # of presets that are not chosen, only what their own tables say counts
        for name in presets:
            own = _of_preset(files[-1:], name)
            laid = [*plain, *_of_preset(files[:-1], name), *own, options]
            found = _checked(laid, presets)[1]
            sentences += [told(fault, laid) for fault in found if blamed(fault, laid) in own]
    if config is None or sentences:
        raise UsageError("; ".join(dict.fromkeys(sentences)))
    return config


def _refuse_broken_text(options: Mapping[str, object]) -> None:
    """See that options are text: the system hands on any bytes.

    Raises:
        UsageError: one of them is not.
    """
    for key, value in options.items():
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{option_of(key)}: got {shown(value)}, expected text in UTF-8") from None


def option_of(key: str) -> str:
    """The option of the command line that gives a key of the configuration."""
    return "--" + _OPTIONS.get(key, key.replace("_", "-"))


_OPTIONS = {"architectures": "architecture", "tasks": "task", "gpu_caps": "gpu-cap", "gpus": "gpu", "seeds": "seed"}


def _table(values: object, key: str) -> dict[str, Any]:
    """A table in a table, or none of its kind: what is wrong is said by those who read it."""
    inner = values.get(key) if isinstance(values, dict) else None
    return inner if isinstance(inner, dict) else {}


def _forget_replaced_tasks(files: Sequence[TomlFile]) -> None:
    """Drop from the default suite, and from its presets, the tasks to which the user's file gives another operator.

    Of those to which it gives other images the presets' options of the images are dropped.
    """
    default = files[0].values
    for file in files[1:]:
        for name, task in _table(file.values, "task").items():
            if isinstance(task, dict) and "data" in task and name in default["task"]:
                for preset in default["preset"].values():
                    _table(_table(preset, "task"), name).pop("data_options", None)
            if is_another(task, default["task"].get(name)):
                del default["task"][name]
                for preset in default["preset"].values():
                    preset.get("task", {}).pop(name, None)


def _of_preset(files: Sequence[TomlFile], name: str) -> list[Layer]:
    """What the files say of a preset, each as a layer."""
    layers = []
    for file in files:
        table = _table(_table(file.values, "preset"), name)
        named = table | {"suite": {**_table(table, "suite"), "preset": name}}

        def where(place: Place, file: TomlFile = file) -> str:
            return file.where(("preset", name, *place))

        layers.append(Layer(named, where))
    return layers


def _checked(layers: Sequence[Layer], presets: Sequence[str]) -> tuple[Config | None, list[Fault]]:
    """The configuration that the layers make, and everything that is wrong with it."""
    values = _as_spelled(laid_together(layers), presets)
    config = validated(Config, values)
    found = config if isinstance(config, list) else []
    suite, tasks = _table(values, "suite"), _table(values, "task")
    wrong = {fault.place[:2] for fault in found}
    for name, table in tasks.items():
        task = None if ("task", name) in wrong else validated(Task, table)
        if isinstance(task, Task):
            found += task_options.faults(name, task, tasks)
    seen: dict[str, str] = {}
    for name in tasks:
        same = seen.setdefault(name.casefold(), name)
        if same != name:
            found.append(Fault(("task", name), f"differs from [task.{same}] in case alone: give it another name"))
    wrong = {fault.place for fault in found}
    if not wrong & {("suite",), ("suite", "tasks"), ("task",)}:
        found += [
            Fault(("suite", "tasks", number), refusal("task", name, tasks))
            for number, name in enumerate(suite["tasks"])
            if name not in tasks
        ]
    if isinstance(config, Config):
        for number, name in enumerate(config.suite.gpus):
            try:
                card_named(name, config.own_cards)
            except ValueError as error:
                found.append(Fault(("suite", "gpus", number), str(error)))
    if not wrong & {("suite",), ("suite", "preset")} and suite["preset"] not in ("auto", *presets):
        found.append(Fault(("suite", "preset"), refusal("preset", suite["preset"], ["auto", *presets])))
    return (config if isinstance(config, Config) else None), found


def _as_spelled(values: dict[str, Any], presets: Sequence[str]) -> dict[str, Any]:
    """The values with every known name as it is registered, whatever its case, and in lists each name once."""
    names: dict[str, Mapping[str, Sequence[str]]] = {
        "suite": {
            "stages": get_args(Stage),
            "preset": ["auto", *presets],
            "architectures": models.names(),
            "tasks": list(_table(values, "task")),
        },
        "model": {"gradient": list(GRADIENTS)},
        "training": {"loss": get_args(Loss)},
        "memory": {"engine": get_args(Engine), "workspace": get_args(Bound)},
        "timing": {"device": get_args(Device), "batch": ["largest"]},
        "accuracy": {
            "device": get_args(Device),
            "schedule": get_args(Schedule),
            "losses": get_args(Loss),
            "gradient": list(GRADIENTS),
            "classical": get_args(Classical),
        },
    }
    of_task = {
        "operator": operators.names(),
        "paper": get_args(PaperTask),
        "stands_for": names["suite"]["tasks"],
        "data": data.names(),
        "metric": get_args(Metric),
        "range": get_args(Range),
        "ssim": get_args(Window),
    }
    corrected = values | {
        section: _corrected(_table(values, section), keys)
        for section, keys in names.items()
        if isinstance(values.get(section), dict)
    }
    if isinstance(values.get("task"), dict):
        corrected["task"] = {
            name: _corrected(task, of_task) if isinstance(task, dict) else task for name, task in values["task"].items()
        }
    if isinstance(gpus := _table(corrected, "suite").get("gpus"), (list, tuple)):
        own = _table(values, "cards")
        names_of_cards = [canonical(name, own) if isinstance(name, str) else name for name in gpus]
        corrected["suite"]["gpus"] = [each for n, each in enumerate(names_of_cards) if each not in names_of_cards[:n]]
    return corrected


def _corrected(table: Mapping[str, Any], keys: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    def correct(value: Any, known: Sequence[str]) -> Any:
        if isinstance(value, str):
            return spelled(value, known)
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            return list(dict.fromkeys(spelled(each, known) for each in value))
        return value

    return {key: correct(value, keys[key]) if key in keys else value for key, value in table.items()}
