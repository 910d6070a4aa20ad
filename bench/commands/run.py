"""bench run: measure every cell of the suite and print the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a run pays for them
    from bench.config import Config
    from bench.memory import Card
    from bench.records import Record, RecordStore
    from bench.suite import Cell

DEFAULT_OUTPUT = Path("results/runs")


def run(
    gpu_cap: Annotated[
        list[str] | None, typer.Option(help="A card's memory, such as 8GB (= 8 GiB) or 8000MB. May be repeated.")
    ] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="A named card: see `bench list`. May be repeated.")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Only this architecture. May be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. May be repeated.")] = None,
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
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON instead of the table.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for records and tables.")] = DEFAULT_OUTPUT,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells measured side by side. [default: one per core]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is already recorded.")] = False,
) -> None:
    """Largest training batch of every architecture on every task, without a GPU.

    Each cell is recorded in the output folder as soon as it is measured. An interrupted run goes on where it
    stopped when the same command is given again.
    """
    from bench import suite
    from bench.config import load
    from bench.errors import CellsFailedError
    from bench.pool import available_cores
    from bench.records import RecordStore, to_json
    from bench.report import table3
    from bench.report.terminal import print_table

    options = {"engine": engine, "alloc_conf": alloc_conf, "allow_tf32": allow_tf32, "deterministic": deterministic}
    settings = load(config, options)
    cards = chosen_cards(settings, gpu_cap or [], gpu or [])
    cells = suite.cells(settings, architecture or [], task or [])
    if settings.memory.engine == "cuda":
        jobs = 1  # cells take turns on the one GPU
        _require_gpu(cards)
    store = RecordStore(output / "records", _warn)
    records = _measure(cells, cards, store, fresh, jobs or available_cores())
    frame = table3.tidy(records, [card.name for card in cards], settings.memory.workspace)
    table3.write(frame, output)
    if json:
        print(to_json(records))
    else:
        print_table(table3.arranged(frame), table3.caption(frame))
    suite.check_cards_hold_parameters(records, cards)
    failed = [record for record in records if record.status == "failed"]
    if failed:
        reasons = "; ".join(f"{record.architecture} on {record.task}: {record.reason}" for record in failed)
        raise CellsFailedError(f"{len(failed)} of {len(records)} cells failed: {reasons}")


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


def _measure(cells: list[Cell], cards: list[Card], store: RecordStore, fresh: bool, jobs: int) -> list[Record]:
    """Measure the cells, each with its bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from bench import suite
    from bench.errors import InterruptedRunError

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[status]}"))
    records: dict[int, Record] = {}
    measured = 0
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bars = [progress.add_task(f"{cell.architecture} on {cell.task}", total=None, status="") for cell in cells]
            for place, record, is_new in suite.run(cells, cards, store, fresh=fresh, jobs=jobs):
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
        _warn(f"{len(cells) - measured} of {len(cells)} cells taken from {store.folder} (--fresh measures them again)")
    return [records[place] for place in sorted(records)]


def _warn(message: str) -> None:
    typer.echo(f"bench: {message}", err=True)
