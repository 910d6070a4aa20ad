"""What several commands share: options, names that have to be known, and what is said on stderr."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_OUTPUT = Path("results/runs")

ConfigFile = Annotated[Path | None, typer.Option(help="The suite, as a TOML file like bench.toml.")]


def say(message: str) -> None:
    """Say something on stderr."""
    typer.echo(f"bench: {message}", err=True)


def known(what: str, names: str, among: Iterable[str]) -> list[str]:
    """Names that were given with commas between them, each once.

    Raises:
        UsageError: one of them is not `among` those known; the message lists these.
    """
    from bench.errors import UsageError

    choice = list(among)
    chosen = [name.strip().lower() for name in names.split(",")]
    for name in chosen:
        if name not in choice:
            raise UsageError(f"unknown {what} {name!r}: known are {', '.join(choice)}")
    return list(dict.fromkeys(chosen))
