"""bench doctor: what this machine has for bench, and what each missing part would add."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, import_torch


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    output: Annotated[Path, typer.Option(help="The folder where results are to go.")] = DEFAULT_OUTPUT,
) -> None:
    """Versions, GPUs, cuDNN, extras, data and disk: what is there, and what each missing part would add.

    A missing part is no error; exit code 2 says that a run cannot work here.
    """
    from dataclasses import asdict

    import_torch()
    import pandas as pd

    from bench.doctor import examine
    from bench.errors import UsageError
    from bench.report.terminal import print_table

    parts = examine(output)
    if json:
        print(json_module.dumps([asdict(part) for part in parts], indent=1))
    else:
        table = pd.DataFrame([asdict(part) for part in parts])
        missing = sum(part.state == "missing" for part in parts)
        print_table(
            table.rename(columns={"name": "part", "adds": "what it would add"}),
            f"{missing} of {len(parts)} parts are missing, without which bench does less." if missing else "All there.",
        )
    broken = [part for part in parts if part.state == "broken"]
    if broken:
        raise UsageError(f"bench cannot run here: {'; '.join(f'{part.name}: {part.found}' for part in broken)}")
