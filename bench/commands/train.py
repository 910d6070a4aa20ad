"""bench train: train architectures on measured images, and judge them beside what needs no training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import (
    DEFAULT_OUTPUT,
    MOST_JOBS,
    ConfigFile,
    Names,
    check_folder,
    import_torch,
    listed,
    numbers,
    say,
)

if TYPE_CHECKING:
    from bench.cells.cell import Cell
    from bench.config import Config


def train(
    architecture: Annotated[list[str], typer.Option(help="What to train; several with commas between them.")],
    task: Annotated[list[str], typer.Option(help="The tasks to train on, separated by commas.")],
    strategy: Annotated[
        Names, typer.Option(help="How to train them, such as plain,recomputed,bf16; `bench list` has all.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Sizes and schedule. [default: demo on a CPU, paper on a GPU]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. [default: the preset's]")] = None,
    seed: Annotated[
        Names, typer.Option(metavar="INTEGER", help="One training each, such as 0,1,2. [default: the preset's]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Images, of `bench data list`. [default: the task's]")] = None,
    data_folder: Annotated[
        Path | None,
        typer.Option(help="Where they are: the set's folder, or one that has it. [default: the data folder]"),
    ] = None,
    classical: Annotated[
        bool, typer.Option("--classical", help="Classical methods too, after the trainings: minutes at larger sizes.")
    ] = False,
    config: ConfigFile = None,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, records, reconstructions.")] = DEFAULT_OUTPUT,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MOST_JOBS, help="Trainings side by side on a CPU. [default: one per core]")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train from the start, even if there are checkpoints.")
    ] = False,
) -> None:
    """Train architectures and evaluate them on test images, next to the initialisation.

    The same as `bench run --stages accuracy`, but for classical methods, which it does on request; resumed in the same
    way: whatever stops a training, the same command goes on from its last checkpoint.
    """
    import_torch()
    from bench.accuracy.checkpoint import Checkpoint
    from bench.cells import suite
    from bench.cells.stale import told
    from bench.commands.measuring import at_preset, check_none_failed, measured, say_what_diverged, say_what_is_doubtful
    from bench.config import load
    from bench.records.store import RecordStore
    from bench.report.tables import table2
    from bench.report.terminal import print_table

    given: dict[str, dict[str, object]] = {
        "suite": {
            "preset": preset,
            "architectures": listed("--architecture", architecture),
            "tasks": listed("--task", task),
            "strategies": listed("--strategy", strategy),
        },
        "accuracy": {"steps": steps, "seeds": numbers("--seed", seed)},
    }
    settings = with_data(at_preset(load(config, given), config, given), data, data_folder)
    if not classical:
        settings = with_initialisation_alone(settings)
    cells = suite.cells(settings, stage="accuracy", say=say)
    check_folder("--output", output)
    if data is not None:
        check_data(cells)
    check_images(cells)
    store = RecordStore(output / "records", say)
    if not fresh and (stale := told(cells, store)):
        say(stale)
    records = measured(cells, store, fresh, jobs)
    frame = table2.tidy(records)
    print_table(table2.arranged(frame), table2.caption(frame))
    say_what_diverged(records)
    say_what_is_doubtful(records)
    for cell, record in zip(cells, records, strict=True):
        if record.parameters:
            for training in cell.accuracy.seeds:
                say(f"weights of {cell.architecture} on {cell.task}: {Checkpoint.of(cell, training, output).path}")
    check_none_failed(records)


def with_data(settings: Config, name: str | None, folder: Path | None) -> Config:
    """The configuration with every task's images replaced, as far as something else is given."""
    from bench.choices import spelled
    from bench.data import names

    tasks = {}
    name = spelled(name, names()) if name is not None else None
    for task_name, task in settings.task.items():
        changes: dict[str, object] = {}
        if name is not None:
            changes |= {"data": name, "data_options": {}}
        if folder is not None:
            own = folder / str(changes.get("data", task.data))  # as `bench data fetch --folder` lays sets out
            changes["data_options"] = {"folder": str(own if own.is_dir() else folder)}
        tasks[task_name] = task.model_copy(update=changes)
    return settings.model_copy(update={"task": tasks})


def with_initialisation_alone(settings: Config) -> Config:
    """The configuration without the classical methods that take their time."""
    kept = tuple(name for name in settings.accuracy.classical if name == "initialisation")
    return settings.model_copy(update={"accuracy": settings.accuracy.model_copy(update={"classical": kept})})


def check_data(cells: Iterable[Cell]) -> None:
    """See that the set of images given by option is one, and of the kind that the tasks' operators take.

    Raises:
        UsageError: it is not.
    """
    from bench import operators
    from bench.config.task_options import data_faults
    from bench.errors import UsageError

    found = []
    for cell in cells:
        task = cell.workload.task
        channels = operators.get(task.operator).image_shape_of(**task.options)[0]
        found += [f"--data: {fault.sentence}" for fault in data_faults(cell.task, task, channels)]
    if found:
        raise UsageError("; ".join(dict.fromkeys(found)))


def check_images(cells: Iterable[Cell]) -> None:
    """See, before anything is trained, that the images of all tasks are there.

    Raises:
        UsageError: a task has none, or they or what reads them is missing.
    """
    from bench.errors import UsageError
    from bench.extras import how_to_install

    tasks = {cell.task: cell.workload.task for cell in cells}
    if not tasks:
        return
    try:
        from bench.accuracy import splits
    except ModuleNotFoundError as error:
        raise UsageError(
            f"training needs {error.name}, which is not installed: {how_to_install(str(error.name))}"
        ) from error
    for name, task in tasks.items():
        splits.check(name, task)
