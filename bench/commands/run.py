"""bench run: measure every cell of the suite, stage by stage, and print the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a run pays for them
    from bench.cell import Cell
    from bench.config import Config
    from bench.memory import Card
    from bench.records import Record, RecordStore, Stage

DEFAULT_OUTPUT = Path("results/runs")


def run(
    gpu_cap: Annotated[
        list[str] | None, typer.Option(help="A card's memory, such as 8GB (= 8 GiB) or 8000MB. May be repeated.")
    ] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="A named card: see `bench list`. May be repeated.")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Only this architecture. May be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. May be repeated.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="What to measure: memory,timing,accuracy. [default: memory,timing]")
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
) -> None:
    """Memory, time and accuracy of every architecture on every task; memory to the byte, without a GPU.

    Each stage of each cell is recorded in the output folder as soon as it is measured. An interrupted run goes on
    where it stopped when the same command is given again.
    """
    from bench import suite
    from bench.config import load
    from bench.records import RecordStore, to_json

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
        jobs = 1  # cells take turns on the one GPU
        _require_gpu(cards)
    cells = {
        stage: suite.cells(
            settings if stage == "memory" else at_preset(settings, config, given),
            architecture or [],
            task or [],
            stage=stage,
            cards=cards,
        )
        for stage in settings.suite.stages
    }
    store = RecordStore(output / "records", warn)
    records = []
    for stage, of_stage in cells.items():
        made = measured(of_stage, store, fresh, side_by_side(stage, settings, jobs))
        records += made
        _report(stage, made, cards, settings, output, printed=not json)
        if stage == "memory":
            suite.check_cards_hold_parameters(made, cards)
    if len(cells) > 1:
        _report_all(records, output, printed=not json)
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


def side_by_side(stage: Stage, settings: Config, jobs: int | None) -> int:
    """How many cells are measured at a time: one where time is measured or a GPU used, else `jobs` or one per core."""
    from bench import devices
    from bench.pool import available_cores

    on_gpu = stage == "accuracy" and devices.chosen(settings.accuracy.device).type == "cuda"
    return 1 if stage == "timing" or on_gpu else jobs or available_cores()


def _report(
    stage: Stage, records: list[Record], cards: list[Card], settings: Config, output: Path, *, printed: bool
) -> None:
    """Write a stage's table into the output folder, and print it."""
    from bench.report import table2, table3, timing
    from bench.report.terminal import print_table

    if stage == "memory":
        frame = table3.tidy(records, [card.name for card in cards], settings.memory.workspace)
        report: Any = table3
    else:
        report = {"timing": timing, "accuracy": table2}[stage]
        frame = report.tidy(records)
    report.write(frame, output)
    if printed:
        print_table(report.arranged(frame), report.caption(frame))


def _report_all(records: list[Record], output: Path, *, printed: bool) -> None:
    """Table 4, which is made of all stages; and why trainings diverged."""
    from bench.report import table4
    from bench.report.terminal import print_table

    frame = table4.tidy(records)
    table4.write(frame, output)
    if printed:
        print_table(table4.arranged(frame), table4.caption(frame))
    say_what_diverged(records)


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


def measured(cells: list[Cell], store: RecordStore, fresh: bool, jobs: int) -> list[Record]:
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

            for place, record, is_new in suite.run(cells, store, fresh=fresh, jobs=jobs, listener=show):
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
