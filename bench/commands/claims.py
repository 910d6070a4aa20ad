"""bench claims: what holds of the paper's claims, from a run's records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, check_file, say
from bench.garbage import collector_paused


@collector_paused()
def claims(
    records: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of records, such as a run's output. May be repeated. [default: results/runs]"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the page into this file instead of printing it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Each claim of the paper with the measured answer: holds, not resolved or reversed, with the numbers.

    Qualities are compared image by image, with the interval of the mean difference; see docs/CLAIMS.md.
    """
    from bench.errors import NotComparableError
    from bench.files import write_atomically
    from bench.records.store import read_records
    from bench.report.chosen import joined
    from bench.report.claims.findings import claims as found
    from bench.report.claims.page import markdown

    check_file("--output", output, force=force)
    folders = records or [DEFAULT_OUTPUT]
    read = joined(*(read_records(folder) for folder in folders))
    if not any(claim.findings for claim in found(read)):
        names = ", ".join(map(str, folders))
        raise NotComparableError(f"no claim to judge: the records in {names} have no two architectures on one task")
    page = markdown(read)
    if output is None:
        print(page, end="")
        return
    write_atomically(output, page.encode())
    say(f"wrote {output}")
