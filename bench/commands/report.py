"""bench report: what has been measured, as tables in every format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, Names, busy, check_folder, known, say
from bench.garbage import collector_paused

if TYPE_CHECKING:  # pandas takes a second to import: only a report pays for it
    from concurrent.futures import Executor, Future

    from bench.records import Record
    from bench.report.formats import Figure, Report

TERMINAL = "terminal"
DEFAULT_REPORT = Path("results/report")
MOST_TASKS_DRAWN = 8


@collector_paused()
def report(
    records: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of records, such as a run's output. May be repeated. [default: results/runs]"),
    ] = None,
    formats: Annotated[
        Names, typer.Option(help="Some of terminal,markdown,csv,parquet,latex,html. [default: terminal,html]")
    ] = None,
    select: Annotated[Names, typer.Option(help="Some of table2,table3,table4,profile,timing. [default: all]")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = DEFAULT_REPORT,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of another report.")] = False,
) -> None:
    """The paper's tables from any set of records: on the terminal, as files, and as one page for a browser."""
    from bench.report.formats import FORMATS
    from bench.report.tables import TABLES

    wanted = known("--formats", "format", formats, (TERMINAL, *FORMATS)) or [TERMINAL, "html"]
    selected = known("--select", "table", select, TABLES) or list(TABLES)
    _check_installed(wanted)
    if wanted != [TERMINAL]:
        check_folder("--output", output)
    folders = records or [DEFAULT_OUTPUT]
    with busy("reading records, arranging tables, drawing"):
        made = _report(_read(folders), selected, folders, with_figures="html" in wanted)
        files = _files(made, wanted)
    _write(files, output, force=force)
    if TERMINAL in wanted:
        _print(made)
    if files:
        say(f"wrote {', '.join(sorted(files))} into {output}")


def _read(folders: Sequence[Path]) -> list[Record]:
    from bench.records.store import read_records
    from bench.report.chosen import joined

    return joined(*map(read_records, folders))


def _report(records: list[Record], selected: list[str], folders: Sequence[Path], *, with_figures: bool) -> Report:
    """Tables and provenance, and beside them, in processes of their own, the plots."""
    from bench.errors import NotComparableError
    from bench.execution.pool import available_cores, pool
    from bench.report.chosen import cards_of
    from bench.report.formats import Report
    from bench.report.provenance import provenance
    from bench.report.summary import found
    from bench.report.tables import tables

    with pool(available_cores()) as workers:
        drawn = _start_drawing(workers, records, selected, folders[0]) if with_figures else {}
        made = tables(records, selected)
        if not made:
            raise NotComparableError(
                f"nothing to report: the {len(records)} records in {_names(folders)} fill none of {', '.join(selected)}"
            )
        return Report(made, list(_figures(drawn)), provenance(records), found(records, cards_of(records), "high"))


def _start_drawing(
    workers: Executor, records: list[Record], selected: list[str], folder: Path
) -> dict[str, Future[dict[str, str]]]:
    """The plots of the stages that the selected tables show, by name; the last ones, which take longest, begin."""
    from bench.report.plots.catalogue import PLOTS, panels, shown
    from bench.report.tables import TABLES

    tasks = {record.task for record in records}
    if len(tasks) > MOST_TASKS_DRAWN:
        say(f"no figures: they have a panel per task, and {len(tasks)} are more than {MOST_TASKS_DRAWN}")
        return {}
    stages = {stage for name in selected for stage in TABLES[name].stages}
    run = folder.parent if folder.name == "records" else folder
    found = shown(records)
    return {
        name: workers.submit(panels, name, found, run)
        for name, plot in reversed(PLOTS.items())
        if stages.issuperset(plot.needs.split(","))
    }


def _figures(drawn: dict[str, Future[dict[str, str]]]) -> Iterator[Figure]:
    """The plots that there are data for, in their order, with a word on those whose files are missing or damaged."""
    from bench.report.formats import Figure

    for name, future in reversed(drawn.items()):
        try:
            panels = future.result()
        except (OSError, ValueError) as error:
            say(f"{name} left out: {error}")
            continue
        if panels:
            caption = name.replace("-", " ").replace("psnr", "PSNR")
            yield Figure(name, caption[0].upper() + caption[1:], panels)


def _files(made: Report, wanted: Iterable[str]) -> dict[str, bytes]:
    """All files of all formats, before the first of them is written."""
    from bench.report.formats import format_named

    files: dict[str, bytes] = {}
    for name in wanted:
        if name != TERMINAL:
            files |= format_named(name).files(made)
    return files


def _check_installed(wanted: Iterable[str]) -> None:
    """See, before the work, that what writes the formats is there.

    Raises:
        UsageError: it is not.
    """
    from importlib.util import find_spec

    from bench.errors import UsageError
    from bench.extras import how_to_install

    if "parquet" in wanted and find_spec("pyarrow") is None:
        raise UsageError(
            f"--formats: parquet needs pyarrow, which is not installed: {how_to_install('pyarrow')}, or leave it out"
        )


def _write(files: dict[str, bytes], folder: Path, *, force: bool) -> None:
    """Write them all, or none where one with other content stands in the way."""
    from bench.errors import UsageError
    from bench.files import write_atomically

    if not files:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [
            name
            for name, content in sorted(files.items())
            if (folder / name).exists() and (folder / name).read_bytes() != content
        ]
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    if others and not force:
        raise UsageError(f"{folder} has another {', '.join(others)}: give --force to overwrite, or another --output")
    for name, content in files.items():
        write_atomically(folder / name, content)


def _print(made: Report) -> None:
    from bench.report.terminal import print_table
    from bench.report.terminal.layout import LEAST

    for place, table in enumerate(made.tables):
        print("\n" * bool(place) + table.title + "\n")
        print_table(table.arranged, table.caption, LEAST.get(table.name, ()))


def _names(folders: Iterable[Path]) -> str:
    return ", ".join(map(str, folders))
