"""bench run: measure every cell of the suite, stage by stage, and print the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a run pays for them
    import pandas as pd

    from bench.cell import Cell
    from bench.config import Config
    from bench.memory import Card
    from bench.records import Record, Stage
    from bench.store import RecordStore

DEFAULT_OUTPUT = Path("results/runs")


def run(
    gpu_cap: Annotated[
        list[str] | None, typer.Option(help="A card's memory, such as 8GB (= 8 GiB) or 8000MB. May be repeated.")
    ] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="A named card: see `bench list`. May be repeated.")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Only this architecture. May be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. May be repeated.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="What to measure: memory,profile,timing,accuracy. [default: all but accuracy]")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Sizes of timing and accuracy. [default: demo on a CPU, paper on a GPU]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The suite, as a TOML file like bench.toml.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What answers: simulated (no GPU needed) or cuda (measures). [default: simulated]"),
    ] = None,
    alloc_conf: Annotated[
        str | None, typer.Option(help="PyTorch's allocator options, in its syntax: expandable_segments:True")
    ] = None,
    allow_tf32: Annotated[
        bool | None, typer.Option(help="torch.backends.cudnn.allow_tf32 while training. [default: on]")
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option(help="torch.backends.cudnn.deterministic while training. [default: off]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON instead of the tables.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for records and tables.")] = DEFAULT_OUTPUT,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells measured side by side. [default: one per core]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is already recorded.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Only a part of the cells, such as 2/4, the second of four; see `bench merge`.")
    ] = None,
) -> None:
    """Memory, what it is made of, time and accuracy of every architecture on every task; memory to the byte.

    Each stage of each cell is recorded in the output folder as soon as it is measured. An interrupted run goes on
    where it stopped when the same command is given again.
    """
    from bench import suite
    from bench.config import load
    from bench.records import FULL_SIZE
    from bench.sharding import Shard
    from bench.store import RecordStore, to_json

    part = Shard.parse(shard) if shard else None
    given: dict[str, dict[str, object]] = {
        "suite": {"stages": tuple(stages.split(",")) if stages else None, "preset": preset},
        "memory": {
            "engine": engine,
            "alloc_conf": alloc_conf,
            "allow_tf32": allow_tf32,
            "deterministic": deterministic,
        },
    }
    settings = load(config, given)
    cards = chosen_cards(settings, gpu_cap or [], gpu or [])
    if settings.memory.engine == "cuda" and "memory" in settings.suite.stages:
        _require_gpu(cards)
    cells = {
        stage: suite.cells(
            settings if stage in FULL_SIZE else at_preset(settings, config, given),
            architecture or [],
            task or [],
            stage=stage,
            cards=cards,
        )
        for stage in settings.suite.stages
    }
    note = ""
    if part:
        all_cells = [cell for of_stage in cells.values() for cell in of_stage]
        of_part = part.part(all_cells)
        cells = {stage: [cell for cell in of_part if cell.stage == stage] for stage in cells}
        note = f" Shard {part} alone, {len(of_part)} of {len(all_cells)} cells: `bench merge` makes the whole."
        if not of_part:
            warn(f"shard {part} has nothing to do: the run has {len(all_cells)} cells")
    store = RecordStore(output / "records", warn)
    records = []
    for stage, of_stage in cells.items():
        made = measured(of_stage, store, fresh, jobs)
        records += made
        if made:
            names = [card.name for card in cards]
            report(stage, made, names, settings, None if part else output, printed=not json, note=note)
        if stage == "memory":
            suite.check_cards_hold_parameters(made, cards)
    if len(cells) > 1 and not part:
        report_all(records, output, printed=not json)
    say_what_diverged(records)
    if json:
        print(to_json(records))
    check_none_failed(records)


def check_none_failed(records: list[Record]) -> None:
    """End the command with the reasons of the cells that failed, if there are any.

    Raises:
        CellsFailedError: some have.
    """
    from bench.errors import CellsFailedError

    failed = [record for record in records if record.status == "failed"]
    if failed:
        reasons = "; ".join(f"{record.architecture} on {record.task}: {record.reason}" for record in failed)
        raise CellsFailedError(f"{len(failed)} of {len(records)} cells failed: {reasons}")


def at_preset(settings: Config, path: Path | None, given: Mapping[str, Mapping[str, object]]) -> Config:
    """The configuration once more, with its preset laid upon it: "auto" is demo on a CPU, paper on a GPU."""
    import torch

    from bench.config import load

    name = settings.suite.preset
    if name == "auto":
        name = "paper" if torch.cuda.is_available() else "demo"
    return load(path, {**given, "suite": {**given.get("suite", {}), "preset": name}}, preset=name)


def _side_by_side(stage: Stage, jobs: int | None, gpus: Sequence[str]) -> int:
    """How many cells are measured at a time: one per GPU; on the CPU one per core, or, when time is measured, one."""
    from bench.pool import available_cores

    if gpus:
        return min(jobs or len(gpus), len(gpus))
    return 1 if stage == "timing" else jobs or available_cores()


def report(
    stage: Stage,
    records: list[Record],
    cards: list[str],
    settings: Config,
    output: Path | None,
    *,
    printed: bool = True,
    note: str = "",
) -> None:
    """Write a stage's table into the output folder, if there is one, and print it, with a note below."""
    from bench.report import profile, table2, table3, timing

    if stage == "memory":
        _show(table3, table3.tidy(records, cards, settings.memory.workspace), output, printed, note)
    else:
        of_stage: Any = {"profile": profile, "timing": timing, "accuracy": table2}[stage]
        _show(of_stage, of_stage.tidy(records), output, printed, note)


def report_all(records: list[Record], output: Path | None, *, printed: bool = True) -> None:
    """Write Table 4, which is made of all stages, into the output folder, if there is one, and print it."""
    from bench.report import table4

    _show(table4, table4.tidy(records), output, printed)


def _show(module: Any, frame: pd.DataFrame, output: Path | None, printed: bool, note: str = "") -> None:
    """Write and print one of the tables of bench.report; its module's name is the files'."""
    from bench.report.terminal import print_table, write_table

    table, caption = module.arranged(frame), module.caption(frame)
    if output:
        write_table(module.__name__.rpartition(".")[2], table, caption, frame, output)
    if printed:
        print_table(table, caption + note)


def say_what_diverged(records: list[Record]) -> None:
    """Name each training that diverged, and where, on stderr."""
    for record in records:
        for training in record.accuracy.trainings if record.accuracy else ():
            if training.status == "diverged":
                warn(f"{record.architecture} on {record.task}, seed {training.seed}, diverged: {training.reason}")


def chosen_cards(settings: Config, gpu_caps: list[str], gpus: list[str]) -> list[Card]:
    """The cards asked for on the command line, or the configuration's."""
    from bench.errors import UsageError
    from bench.memory.gpus import card_named, card_of_capacity

    if not gpu_caps and not gpus:
        gpu_caps, gpus = list(settings.suite.gpu_caps), list(settings.suite.gpus)
    try:
        cards = [card_of_capacity(text) for text in gpu_caps] + [card_named(name) for name in gpus]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not cards:
        raise UsageError("no card to answer for: give --gpu-cap 8GB, --gpu NAME, or gpu_caps in the configuration")
    return list({card.name: card for card in cards}.values())


def _require_gpu(cards: list[Card]) -> None:
    from bench.errors import UsageError
    from bench.memory.cuda import NoGpuError, require_gpu

    try:
        require_gpu(max(card.usable_bytes for card in cards))
    except NoGpuError as error:
        raise UsageError(str(error)) from error


def measured(cells: list[Cell], store: RecordStore, fresh: bool, jobs: int | None) -> list[Record]:
    """The cells' records, measured as far as they are not stored, each with its bar where stderr is a terminal.

    Raises:
        InterruptedRunError: by the user; what is done is stored.
        StorageError: a record or checkpoint cannot be used or written.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from bench import progress as progress_of
    from bench import suite
    from bench.errors import InterruptedRunError

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    records: dict[int, Record] = {}
    measured = 0
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bars = [progress.add_task(f"{cell.architecture} on {cell.task}", total=None, status="") for cell in cells]

            def show(place: int, heard: progress_of.Progress) -> None:
                progress.update(bars[place], total=heard.total, completed=heard.done, status=heard.status)

            gpus = suite.gpus(cells)
            at_a_time = _side_by_side(cells[0].stage, jobs, gpus) if cells else 1
            made = suite.run(cells, store, fresh=fresh, jobs=at_a_time, gpus=gpus, listener=show)
            for place, record, is_new in made:
                records[place] = record
                measured += is_new
                progress.update(
                    bars[place], total=1, completed=1, status=record.status if is_new else "recorded before"
                )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted with {len(records)} of {len(cells)} cells in {store.folder}: "
            "the same command goes on from there"
        ) from None
    if measured < len(cells):
        warn(f"{len(cells) - measured} of {len(cells)} cells taken from {store.folder} (--fresh measures them again)")
    return [records[place] for place in sorted(records)]


def warn(message: str) -> None:
    """Say something on stderr."""
    typer.echo(f"bench: {message}", err=True)
