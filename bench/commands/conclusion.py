"""What `bench check` and `bench compare` have in common: options, and the end to which verdicts come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch and pandas take over a second to import: only a comparison pays for them
    from bench.errors import BenchError
    from bench.regression.gate import Level
    from bench.regression.verdicts import Verdict

Json = Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON instead of the tables.")]
Junit = Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML, one test case per cell.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]
AllowImprovement = Annotated[bool, typer.Option("--allow-improvement", help="Exit with 0 where cells are better.")]


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
    verdicts: Sequence[Verdict],
    *,
    title: str,
    json: bool,
    junit: Path | None,
    allow_improvement: bool,
    allow_incomparable: bool,
    renewal: str | None = None,
) -> None:
    """Report the verdicts wherever that is asked for, and end with their exit code.

    Args:
        verdicts: one per cell.
        title: of the reports.
        json: print JSON instead of tables.
        junit: where to write JUnit XML.
        allow_improvement: cells that are better are fine.
        allow_incomparable: it is fine where something, but not everything, could be compared.
        renewal: how what came before is renewed, where it can be.

    Raises:
        RegressionError: cells are worse, or better without `allow_improvement`.
        NotComparableError: no cell could be compared, or without `allow_incomparable` not all that was there before.
    """
    from bench.files import write_atomically
    from bench.regression.gate import levels
    from bench.report.verdicts import junit as junit_report

    found = levels(verdicts, allow_improvement=allow_improvement, allow_incomparable=allow_incomparable)
    refusal = _refusal(verdicts, found, renewal)
    _print(verdicts, json)
    if junit:
        write_atomically(junit, junit_report.to_xml(verdicts, found, title))
    _tell_github(verdicts, found, title, refusal)
    if refusal:
        raise refusal


def _refusal(verdicts: Sequence[Verdict], levels: Sequence[Level], renewal: str | None) -> BenchError | None:
    """One sentence, where the gate is not passed: what became worse, else better, else what was not compared."""
    from bench.errors import NotComparableError, RegressionError
    from bench.regression.gate import Level
    from bench.regression.verdicts import Outcome
    from bench.report.verdicts import sentence

    failures, errors = (
        [verdict for verdict, level in zip(verdicts, levels, strict=True) if level is wanted]
        for wanted in (Level.FAILURE, Level.ERROR)
    )
    worse = [verdict for verdict in failures if verdict.outcome is Outcome.WORSE]
    before = sum(verdict.outcome is not Outcome.NEW for verdict in verdicts)
    either = f"{renewal}, " if renewal else ""
    if worse:
        return RegressionError(f"{len(worse)} of {len(verdicts)} cells worse; the first: {sentence(worse[0])}")
    if failures:
        return RegressionError(
            f"{len(failures)} of {len(verdicts)} cells better and none worse: {either}--allow-improvement accepts it "
            f"once; the first: {sentence(failures[0])}"
        )
    if not any(verdict.compared for verdict in verdicts):
        first = next((verdict for verdict in errors if verdict.outcome is Outcome.NOT_COMPARABLE), errors[0])
        remedy = f": {renewal}" if renewal else ""
        return NotComparableError(
            f"none of {before or len(verdicts)} cells can be compared{remedy}; the first: {sentence(first)}"
        )
    if errors:
        return NotComparableError(
            f"{len(errors)} of {before} cells cannot be compared, or not in whole: {either}--allow-incomparable "
            f"accepts it once; the first: {sentence(errors[0])}"
        )
    return None


def _print(verdicts: Sequence[Verdict], json: bool) -> None:
    from json import dumps

    from bench.report import verdicts as report
    from bench.report.terminal import print_table
    from bench.report.terminal.layout import LEAST

    if json:
        print(dumps({"format": 1, "verdicts": [report.as_dict(verdict) for verdict in verdicts]}, indent=1))
        return
    print_table(report.table(verdicts), report.caption(verdicts), LEAST["verdicts"])
    why = report.why_table(verdicts)
    if why is not None:
        print()
        print_table(why, report.why_caption(verdicts), LEAST["why"])


def _tell_github(verdicts: Sequence[Verdict], levels: Sequence[Level], title: str, refusal: BenchError | None) -> None:
    """Inside a step of GitHub Actions: annotations on stderr, and the step's summary."""
    from bench.errors import UsageError
    from bench.report.verdicts import github

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for command in github.workflow_commands(verdicts, levels, title):
            typer.echo(command, err=True)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(github.summary(verdicts, title, str(refusal) if refusal else None))
        except OSError as error:
            raise UsageError(f"cannot write the step summary {summary}: {error.strerror}") from error
