"""bench merge: the records of several output folders put together, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from bench.commands.common import import_torch, say

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a merge pays for them
    from bench.config import Config
    from bench.records import Record, Stage

_SCRATCH = ".merge-"


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output folders of `bench run`.")],
    output: Annotated[Path, typer.Option(help="Folder for all records and their tables.")],
    config: Annotated[
        Path | None, typer.Option(help="The suite, as a TOML file like bench.toml: the tables' order.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of other content.")] = False,
) -> None:
    """Put the records of several runs together, such as the shards of one, and write the tables of all.

    Records of the same cell have to agree; what else belongs to a record, such as reconstructions, comes with it. The
    output folder may be one of those merged.
    """
    import_torch()
    from bench.commands.tables import report, report_all
    from bench.config import load
    from bench.records import merging
    from bench.report.chosen import cards_of

    settings = load(config)
    with _alone_in(output):
        stored = merging.gathered(folders)
        by_stage = _tabulated([each.record for each in stored], settings)
        every = [record for records in by_stage.values() for record in records]
        cards = cards_of(by_stage.get("memory", []))
        is_one_of_them = any(output.exists() and output.samefile(folder) for folder in folders)
        with _scratch(output) as staged:
            merging.stage(stored, staged)
            for stage, records in by_stage.items():
                report(stage, records, cards, settings, staged, printed=False)
            if len(by_stage) > 1:
                report_all(every, staged, printed=False)
            merging.move_into(staged, output, force=force or is_one_of_them)
    for stage, records in by_stage.items():
        report(stage, records, cards, settings, None)
    if len(by_stage) > 1:
        report_all(every, None)
    say(f"{len(stored)} records of {len(folders)} folders are in {output}")


@contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """No run and no other merge writes records meanwhile into a folder that has some; what killed merges left goes."""
    from bench.files import leads_outside, locked

    records = output / "records"
    if not records.is_dir() or leads_outside(records, output):
        yield
        return
    with locked(records):
        for left in output.glob(f"{_SCRATCH}????????"):
            rmtree(left, ignore_errors=True)
        yield


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A folder inside the output folder that is gone in the end.

    Raises:
        UsageError: it cannot be made, or files in it cannot be moved.
    """
    from bench.errors import UsageError

    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output, prefix=_SCRATCH) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {output}: {error.strerror}") from error


def _tabulated(records: list[Record], settings: Config) -> dict[Stage, list[Record]]:
    """The records of each stage in the suite's order; a stage with two results of one cell has no place for both."""
    from bench.records import Stage

    by_stage: dict[Stage, list[Record]] = {}
    for stage in get_args(Stage):
        of_stage = sorted((record for record in records if record.stage == stage), key=_order(settings))
        twice = _measured_twice(of_stage)
        if twice:
            say(f"no table of the stage {stage}: {twice}")
        elif of_stage:
            by_stage[stage] = of_stage
    return by_stage


def _order(settings: Config) -> Callable[[Record], tuple[int, str, int, str]]:
    tasks, architectures = settings.suite.tasks, settings.suite.architectures

    def place(names: Sequence[str], name: str) -> int:
        return names.index(name) if name in names else len(names)

    return lambda record: (
        *(place(tasks, record.task), record.task),
        *(place(architectures, record.architecture), record.architecture),
    )


def _measured_twice(records: Sequence[Record]) -> str | None:
    """Which cell has two results, under other settings or another torch, if one has."""
    for one, other in pairwise(records):
        if (one.task, one.architecture) == (other.task, other.architecture):
            versions = dict.fromkeys((one.provenance.torch, other.provenance.torch))
            why = f"torch {' and '.join(versions)}" if len(versions) > 1 else "other settings or sources"
            return f"{one.architecture} on {one.task} has several results ({why})"
    return None
