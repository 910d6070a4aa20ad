"""bench compare: what became of each cell between two sets of records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.garbage import collector_paused

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a comparison pays for them
    from bench.regression.verdicts import Outcome, Verdict

Json = Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON instead of the tables.")]
Junit = Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML, one test case per cell.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]
AllowImprovement = Annotated[bool, typer.Option("--allow-improvement", help="Exit with 0 where cells are better.")]
ConfigFile = Annotated[Path | None, typer.Option(help="The suite, as a TOML file like bench.toml.")]


@collector_paused()
def compare(
    a: Annotated[Path, typer.Argument(help="Before: a folder of records, or a baseline's file.")],
    b: Annotated[Path, typer.Argument(help="After: a folder of records, or a baseline's file.")],
    config: ConfigFile = None,
    json: Json = False,
    junit: Junit = None,
    force: Force = False,
    allow_improvement: AllowImprovement = False,
) -> None:
    """What became of each cell between two sets of records: better, worse, same, new, gone or not comparable.

    Exits with 0 if nothing changed, 1 if something is worse or better, 4 if nothing can be compared.
    """
    from bench.config import load
    from bench.regression.baseline import read_set
    from bench.regression.verdicts import compare

    refuse_existing(junit, force)
    verdicts = compare(read_set(a), read_set(b), load(config).check)
    conclude(
        verdicts,
        title="bench compare",
        json=json,
        junit=junit,
        allow_improvement=allow_improvement,
        remedy="--allow-improvement accepts that",
    )


def refuse_existing(path: Path | None, force: bool) -> None:
    """Before anything is measured: refuse a file that exists, unless it may be overwritten.

    Raises:
        UsageError: it exists, or its folder does not.
    """
    from bench.errors import UsageError

    if path is None:
        return
    if path.exists() and not force:
        raise UsageError(f"{path} exists: give --force to overwrite it, or another name")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")


def conclude(
    verdicts: Sequence[Verdict], *, title: str, json: bool, junit: Path | None, allow_improvement: bool, remedy: str
) -> None:
    """Report the verdicts wherever that is asked for, and end with their exit code.

    Args:
        verdicts: one per cell.
        title: of the reports.
        json: print JSON instead of tables.
        junit: where to write JUnit XML.
        allow_improvement: cells that are better are fine.
        remedy: what to do about cells that are better.

    Raises:
        RegressionError: cells are worse, or better without `allow_improvement`.
        NothingComparableError: no cell could be compared.
    """
    from bench.errors import NothingComparableError, RegressionError
    from bench.records import write_atomically
    from bench.regression.verdicts import Outcome
    from bench.report import junit as junit_report
    from bench.report.verdicts import sentence

    failing = [Outcome.WORSE] if allow_improvement else [Outcome.WORSE, Outcome.BETTER]
    _print(verdicts, json)
    if junit:
        write_atomically(junit, junit_report.to_xml(verdicts, title, failing))
    _tell_github(verdicts, title, failing)
    found = {outcome: [verdict for verdict in verdicts if verdict.outcome is outcome] for outcome in Outcome}
    worse, better = found[Outcome.WORSE], found[Outcome.BETTER]
    if worse:
        raise RegressionError(f"{len(worse)} of {len(verdicts)} cells worse; the first: {sentence(worse[0])}")
    if better and not allow_improvement:
        raise RegressionError(
            f"{len(better)} of {len(verdicts)} cells better and none worse: {remedy}; the first: {sentence(better[0])}"
        )
    if not better and not found[Outcome.SAME]:
        first = (found[Outcome.NOT_COMPARABLE] or list(verdicts))[0]
        raise NothingComparableError(f"none of {len(verdicts)} cells can be compared; the first: {sentence(first)}")


def _print(verdicts: Sequence[Verdict], json: bool) -> None:
    from json import dumps

    from bench.report import verdicts as report
    from bench.report.terminal import print_table

    if json:
        print(dumps({"format": 1, "verdicts": [report.as_dict(verdict) for verdict in verdicts]}, indent=1))
        return
    print_table(report.table(verdicts), report.caption(verdicts))
    why = report.why_table(verdicts)
    if why is not None:
        print()
        print_table(why, report.why_caption(verdicts))


def _tell_github(verdicts: Sequence[Verdict], title: str, failing: Sequence[Outcome]) -> None:
    """Inside a step of GitHub Actions: annotations on stderr, and the step's summary."""
    from bench.errors import UsageError
    from bench.report import github

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for command in github.workflow_commands(verdicts, title, failing):
            typer.echo(command, err=True)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(github.summary(verdicts, title))
        except OSError as error:
            raise UsageError(f"cannot write the step summary {summary}: {error.strerror}") from error
