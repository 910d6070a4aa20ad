"""Tables on stdout: drawn where it is a terminal, plain Markdown where it is a pipe or a file."""

from __future__ import annotations

import sys

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown, without its index."""
    return table.to_markdown(index=False, disable_numparse=True)


def print_table(table: pd.DataFrame, caption: str) -> None:
    """Print a table of text with its caption."""
    if not sys.stdout.isatty():
        print(f"{markdown(table)}\n\n{caption}")
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(caption=caption, caption_justify="left")
    for column in table.columns:
        drawn.add_column(str(column), justify="left" if column == table.columns[0] else "right")
    for row in table.itertuples(index=False):
        drawn.add_row(*row, end_section=str(row[1]).startswith("MiB"))
    Console().print(drawn)
