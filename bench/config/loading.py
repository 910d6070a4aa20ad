"""bench.toml as it is read: completed from the default suite, a preset and options, and checked as a whole.

Every unknown key and wrong value is reported at once, each with the option or the file and line that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import bench
from bench import data, models, operators, plugins
from bench.choices import refusal, spelled
from bench.config import own_modules, task_options, toml_file
from bench.config.layers import Fault, Layer, blamed, is_another, laid_together, told, validated
from bench.config.own_cards import canonical
from bench.config.sections import (
    Activations,
    Autocast,
    Bound,
    Classical,
    Config,
    Device,
    Engine,
    Loss,
    MemoryFormat,
    Optimizer,
    PaperTask,
    Schedule,
    Task,
)
from bench.config.toml_file import Place, TomlFile, shown
from bench.errors import UsageError
from bench.memory.gpus import card_named
from bench.models.architectures.base import INITIALS
from bench.models.implicit import GRADIENTS
from bench.records import Measurements, Metric, Range, Stage, Window

FILE_NAME = "bench.toml"


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
    for file in files:
        own_modules.load(file)
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


_OPTIONS = {
    "architectures": "architecture",
    "strategies": "strategy",
    "tasks": "task",
    "gpu_caps": "gpu-cap",
    "gpus": "gpu",
    "seeds": "seed",
}


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
        "model": {"gradient": list(GRADIENTS), "initial": INITIALS},
        "training": {
            "loss": get_args(Loss),
            "optimizer": get_args(Optimizer),
            "autocast": get_args(Autocast),
            "memory_format": get_args(MemoryFormat),
            "activations": get_args(Activations),
        },
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
        "measurements": get_args(Measurements),
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
        own = [
            *_table(values, "cards"),
            *(card.name for card in plugins.cards(_table(values, "plugins").get("modules"))),
        ]
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
