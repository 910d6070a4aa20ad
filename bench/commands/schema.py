"""bench schema: JSON schemas of bench.toml and of records."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def schema(
    what: Annotated[
        Literal["config", "record"], typer.Argument(help="config: of bench.toml; record: of one record.")
    ] = "config",
) -> None:
    """Print the JSON schema of bench.toml, for editors, or of a record."""
    from bench.report.terminal import print_json
    from bench.schema import text

    print_json(text(what).rstrip("\n"))
