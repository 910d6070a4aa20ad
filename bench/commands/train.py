"""bench train: train architectures on measured images, and judge them beside what needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, ConfigFile, say

if TYPE_CHECKING:
    from bench.config import Config


def train(
    architecture: Annotated[list[str], typer.Option(help="What to train. May be repeated.")],
    task: Annotated[list[str], typer.Option(help="On what. May be repeated.")],
    preset: Annotated[
        str | None, typer.Option(help="Sizes and schedule. [default: demo on a CPU, paper on a GPU]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. [default: the preset's]")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="One training each. May be repeated. [default: the preset's]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Images, of `bench data list`. [default: the task's]")] = None,
    data_folder: Annotated[
        Path | None,
        typer.Option(help="Where they are: the set's folder, or one that has it. [default: the data folder]"),
    ] = None,
    config: ConfigFile = None,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, records, reconstructions.")] = DEFAULT_OUTPUT,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings side by side on a CPU. [default: one per core]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train from the start, whatever was trained before.")] = False,
) -> None:
    """Train architectures and judge them on held-out images, beside their initialisation and classical methods.

    The same as `bench run --stages accuracy`, and resumed in the same way: whatever stops a training, the same command
    goes on from its last checkpoint.
    """
    from bench import suite
    from bench.accuracy.checkpoint import Checkpoint
    from bench.commands.measuring import at_preset, check_none_failed, measured, say_what_diverged
    from bench.config import load
    from bench.report import table2
    from bench.report.terminal import print_table
    from bench.stale import told
    from bench.store import RecordStore

    given: dict[str, dict[str, object]] = {
        "suite": {"preset": preset},
        "accuracy": {"steps": steps, "seeds": tuple(seed) if seed else None},
    }
    settings = with_data(at_preset(load(config, given), config, given), data, data_folder)
    cells = suite.cells(settings, architecture, task, stage="accuracy")
    store = RecordStore(output / "records", say)
    if not fresh and (stale := told(cells, store)):
        say(stale)
    records = measured(cells, store, fresh, jobs)
    frame = table2.tidy(records)
    print_table(table2.arranged(frame), table2.caption(frame))
    say_what_diverged(records)
    for cell, record in zip(cells, records, strict=True):
        if record.parameters:
            for training in cell.accuracy.seeds:
                say(f"weights of {cell.architecture} on {cell.task}: {Checkpoint.of(cell, training, output).path}")
    check_none_failed(records)


def with_data(settings: Config, name: str | None, folder: Path | None) -> Config:
    """The configuration with every task's images replaced, as far as something else is given."""
    tasks = {}
    for task_name, task in settings.task.items():
        changes: dict[str, object] = {}
        if name is not None:
            changes |= {"data": name, "data_options": {}}
        if folder is not None:
            own = folder / str(changes.get("data", task.data))  # as `bench data fetch --folder` lays sets out
            changes["data_options"] = {"folder": str(own if own.is_dir() else folder)}
        tasks[task_name] = task.model_copy(update=changes)
    return settings.model_copy(update={"task": tasks})
