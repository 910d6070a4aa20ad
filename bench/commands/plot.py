"""bench plot: the comparison plots of a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, Names, busy, check_folder, known, say
from bench.garbage import collector_paused


@collector_paused()
def plot(
    records: Annotated[Path, typer.Option(help="The output folder of `bench run`.")] = DEFAULT_OUTPUT,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the plots. [default: plots, beside the records]")
    ] = None,
    formats: Annotated[Names, typer.Option(help="File formats: png,svg,pdf. [default: png]")] = None,
    select: Annotated[Names, typer.Option(help="Only these plots, with commas between them. [default: all]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace plots that are there.")] = False,
) -> None:
    """Comparison plots: largest batches, memory and what it is made of, time, PSNR, training curves, reconstructions.

    A plot whose data were not measured is left out, and the command that measures them is named.
    """
    from bench.errors import NotComparableError
    from bench.execution.pool import available_cores, pool
    from bench.files import write_atomically
    from bench.records.store import read_records
    from bench.report.plots.catalogue import PLOTS, files, shown
    from bench.report.plots.style import FORMATS

    suffixes = known("--formats", "format", formats, FORMATS) or ["png"]
    names = known("--select", "plot", select, PLOTS) or list(PLOTS)
    found = shown(read_records(records))
    folder = records.parent if records.name == "records" else records
    output = output or folder / "plots"
    check_folder("--output", output)
    _refuse_existing([output / f"{name}.{suffix}" for name in names for suffix in suffixes], force)
    pictures: dict[Path, bytes] = {}
    with busy("drawing"), pool(min(available_cores(), len(names))) as workers:
        drawn = {name: workers.submit(files, name, found, folder, suffixes) for name in reversed(names)}
        for name, future in reversed(drawn.items()):  # the last ones take longest, and were begun first
            try:
                by_suffix = future.result()
            except FileNotFoundError as error:
                say(f"{name} left out: {error.filename} is not there; the cell trained again has it")
                continue
            except OSError as error:
                say(f"{name} left out: cannot read {error.filename}: {error.strerror}")
                continue
            except ValueError as error:
                say(f"{name} left out: {error}")
                continue
            if not by_suffix:
                say(f"{name} left out: `bench run --stages {PLOTS[name].needs}` measures what it shows")
            pictures |= {output / f"{name}.{suffix}": content for suffix, content in by_suffix.items()}
    if not pictures:
        raise NotComparableError(f"nothing to plot: the records in {records} have the data of none of the plots")
    _make(output)
    for path, content in pictures.items():
        write_atomically(path, content)
        say(f"wrote {path}")


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    from bench.errors import UsageError

    existing = [path for path in paths if path.exists()]
    if existing and not force:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        exist = "exist" if others else "exists"
        raise UsageError(
            f"{existing[0]}{others} {exist}: give --force to replace, or another --output; nothing written"
        )


def _make(folder: Path) -> None:
    from bench.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error
