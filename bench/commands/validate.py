"""bench validate: the predictions held against a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import ConfigFile, say


def validate(
    gpu_cap: Annotated[
        list[str] | None, typer.Option(help="A card's memory, such as 8GB (= 8 GiB). May be repeated.")
    ] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Only this architecture. May be repeated.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. May be repeated.")] = None,
    config: ConfigFile = None,
    output: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("results/validation"),
    time_limit: Annotated[float, typer.Option(min=1, help="Begin no row after so many seconds.")] = float("inf"),
) -> None:
    """Hold every prediction against a GPU: B fits, B + 1 does not, and the peaks.

    The GPU's allocator is capped, so that a large card stands in for smaller ones. Rows are stored as they are made;
    the same command goes on where the last one stopped.
    """
    from bench import suite, validation
    from bench.commands.measuring import chosen_cards, gpu_for, say_that_environment_is_ignored
    from bench.config import load
    from bench.errors import CellsFailedError
    from bench.report import validation as report
    from bench.report.terminal import print_table

    say_that_environment_is_ignored()
    settings = load(config)
    cards = chosen_cards(settings, gpu_cap or [], [])
    cells = suite.cells(settings, architecture or [], task or [])
    device_name = gpu_for(cards)
    path = output / f"{device_name.replace(' ', '-').lower()}.json"
    rows = []
    for row, is_new in validation.run(cells, cards, path, device_name, time_limit_seconds=time_limit):
        rows.append(row)
        if is_new:
            verdict = row.reason or f"predicted {row.predicted_batch}, measured {row.measured_batch}"
            typer.echo(f"{row.architecture} on {row.task}, {row.cap}: {verdict} ({row.seconds} s)", err=True)
    print_table(report.table(rows), report.caption(rows, device_name))
    if len(rows) < len(cells) * len(cards):
        say(f"{len(rows)} of {len(cells) * len(cards)} rows done: the same command goes on")
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise CellsFailedError(f"{len(failed)} of {len(rows)} rows failed; the first: {failed[0].reason}")
