"""bench validate: the predictions held against a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    gpu_cap: Annotated[
        list[str] | None, typer.Option(help="A card's memory, such as 8GB (= 8 GiB). May be repeated.")
    ] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Only this architecture. May be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. May be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(help="The suite, as a TOML file like bench.toml.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("results/validation"),
    time_limit: Annotated[float, typer.Option(min=1, help="Begin no row after so many seconds.")] = float("inf"),
) -> None:
    """Hold every prediction against a GPU: B fits, B + 1 does not, and the peaks.

    The GPU's allocator is capped, so that a large card stands in for smaller ones. Rows are stored as they are made;
    the same command goes on where the last one stopped.
    """
    from bench import suite, validation
    from bench.commands.run import chosen_cards
    from bench.config import load
    from bench.errors import CellsFailedError, UsageError
    from bench.memory.cuda import NoGpuError, require_gpu
    from bench.report import validation as report
    from bench.report.terminal import print_table

    settings = load(config)
    cards = chosen_cards(settings, gpu_cap or [], [])
    cells = suite.cells(settings, architecture or [], task or [])
    try:
        device_name = require_gpu(max(card.usable_bytes for card in cards))
    except NoGpuError as error:
        raise UsageError(str(error)) from error
    path = output / f"{device_name.replace(' ', '-').lower()}.json"
    rows = []
    for row, is_new in validation.run(cells, cards, path, device_name, time_limit_seconds=time_limit):
        rows.append(row)
        if is_new:
            verdict = row.reason or f"predicted {row.predicted_batch}, measured {row.measured_batch}"
            typer.echo(f"{row.architecture} on {row.task}, {row.cap}: {verdict} ({row.seconds} s)", err=True)
    print_table(report.table(rows), report.caption(rows, device_name))
    if len(rows) < len(cells) * len(cards):
        typer.echo(f"bench: {len(rows)} of {len(cells) * len(cards)} rows done: the same command goes on", err=True)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise CellsFailedError(f"{len(failed)} of {len(rows)} rows failed; the first: {failed[0].reason}")
