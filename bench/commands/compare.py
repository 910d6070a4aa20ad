"""bench compare: what became of each cell between two sets of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import ConfigFile, import_torch
from bench.commands.conclusion import AllowImprovement, Force, Json, Junit, conclude, refuse_existing
from bench.garbage import collector_paused


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

    Exits with 0 if nothing that can be compared changed, 1 if something is worse or better, 4 if nothing can be.
    """
    import_torch()
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
        allow_incomparable=True,
    )
