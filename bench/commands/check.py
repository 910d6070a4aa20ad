"""bench check: does the suite still take the memory that its baseline says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import ConfigFile, busy, import_torch
from bench.commands.conclusion import AllowImprovement, Force, Json, Junit, conclude, refuse_existing
from bench.garbage import collector_paused

Jobs = Annotated[int | None, typer.Option(min=1, help="Cells measured side by side. [default: one per core]")]


@collector_paused()
def check(
    baseline: Annotated[Path | None, typer.Option(help="Its file. [default: that of the configuration]")] = None,
    records: Annotated[
        Path | None, typer.Option(help="Records of the stage memory to check, instead of measuring anew.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    junit: Junit = None,
    force: Force = False,
    allow_improvement: AllowImprovement = False,
    allow_incomparable: Annotated[
        bool, typer.Option("--allow-incomparable", help="Exit with 0 where not all of the baseline can be compared.")
    ] = False,
    jobs: Jobs = None,
) -> None:
    """Simulate the baseline's cells again and compare, to the byte; if memory changed, show what grew, and where.

    Exits with 0 if nothing changed, 1 if something is worse or better, 4 if something that the baseline has cannot be
    compared.
    """
    import_torch()
    from bench.cells import suite
    from bench.commands.measuring import say_that_environment_is_ignored
    from bench.config import load
    from bench.errors import NotComparableError
    from bench.execution.pool import available_cores
    from bench.records.store import read_records
    from bench.regression import fresh
    from bench.regression.baseline import read
    from bench.regression.measured import all_reduced
    from bench.regression.verdicts import compare

    refuse_existing(junit, force)
    say_that_environment_is_ignored()
    settings = load(config)
    before = read(baseline or settings.check.baseline)
    cells = suite.cells(settings)
    jobs = jobs or available_cores()
    with busy(f"checking {len(before)} cells"):
        if records is None:
            after = fresh.again(cells, before, jobs)
        else:
            found = read_records(records)
            given = [record for record in found if record.stage == "memory"]
            if not given:
                raise NotComparableError(f"no records of the stage memory in {records}: `bench run` makes them")
            after = [cell for cell in all_reduced(found) if cell.stage == "memory"]
            keys = {record.key for record in given}
            cells = [cell for cell in cells if cell.key in keys]  # these sources made them, and can explain them
        changed = {verdict.name for verdict in compare(before, after, settings.check) if verdict.decisive}
        after = fresh.explained(cells, before, after, changed, jobs)
    conclude(
        compare(before, after, settings.check),
        title="bench check",
        json=json,
        junit=junit,
        allow_improvement=allow_improvement,
        allow_incomparable=allow_incomparable,
        renewal="`bench baseline update` accepts the numbers of today",
    )
