"""bench history: the numbers of several sets of results, over dated folders or over commits."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.common import check_picture

if TYPE_CHECKING:
    from bench.regression.measured import Measured

MOST_COMMITS = 1000


def history(
    sets: Annotated[
        list[Path] | None, typer.Argument(help="Folders of records, or files of baselines, the oldest first.")
    ] = None,
    commits: Annotated[
        int | None, typer.Option(min=1, max=MOST_COMMITS, help="Instead: the baseline in this many last commits.")
    ] = None,
    baseline: Annotated[Path, typer.Option(help="With --commits: the baseline's file, in a git repository.")] = Path(
        "results/baseline.json"
    ),
    format: Annotated[
        Literal["table", "bencher", "bigger-is-better", "smaller-is-better"],
        typer.Option(
            help="table, or the newest set as JSON: bencher (Bencher Metric Format); bigger- or smaller-is-better "
            "(github-action-benchmark's custom tools)."
        ),
    ] = "table",
    picture: Annotated[Path | None, typer.Option(help="Draw them too, as a .png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a picture that is there.")] = False,
) -> None:
    """Show how largest batches, memory per image, times and PSNR changed over folders or commits.

    A column is called by its folder or file, or by the date and hash of its commit.
    """
    from bench.errors import UsageError
    from bench.regression.baseline import read_set
    from bench.report.terminal import history as report
    from bench.report.terminal import print_json, print_table

    if picture:
        check_picture("--picture", picture, force=force)
    if bool(sets) == (commits is not None):
        raise UsageError("expected folders or baselines, or --commits N: give one of them")
    found: dict[str, tuple[Measured, ...]] = {}
    if commits is not None:
        found = dict(_committed(baseline, commits))
    for path in sets or ():
        label = path.stem if path.is_file() else path.resolve().name
        found[str(path) if label in found else label] = read_set(path)
    *_, newest = found.values()
    if picture:
        from bench.report.plots.history import draw

        numbers = {label: report.points(cells) for label, cells in found.items()}
        if not any(numbers.values()):
            raise UsageError("--picture: the sets have no number that a history shows")
        draw(numbers, picture)
    if format == "table":
        table = report.table(found)
        caption = f"{len(found)} sets, the oldest first. Largest batches and bytes: exact, or else the bound high."
        print_table(table, caption, report.oldest_first(table))
    elif format == "bencher":
        print_json(report.bencher(newest))
    else:
        print_json(report.action_benchmark(newest, "most" if format == "bigger-is-better" else "least"))


def _committed(baseline: Path, commits: int) -> Iterator[tuple[str, tuple[Measured, ...]]]:
    """The baseline of the last commits that changed it, the oldest first, by their dates and hashes.

    Raises:
        UsageError: there is no git, no repository, or no commit of this file.
    """
    from bench.errors import UsageError
    from bench.regression.baseline import read

    folder, name = baseline.absolute().parent, baseline.name
    lines = _git(folder, "log", f"-{commits}", "--format=%h %cs", "--", name).split("\n")
    if not any(lines):
        raise UsageError(f"--commits: no commit has {baseline}")
    for line in reversed(lines[:-1]):
        commit, date = line.split()
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / name
            copy.write_text(_git(folder, "show", f"{commit}:./{name}"), encoding="utf-8")
            yield f"{date} {commit}", read(copy)


def _git(folder: Path, *arguments: str) -> str:
    from bench.errors import UsageError

    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--commits: cannot run git: {error.strerror}") from error
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise UsageError(f"--commits: git cannot read {folder}: {said}")
    return done.stdout
