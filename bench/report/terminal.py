"""Tables of text: on stdout drawn where it is a terminal, plain Markdown where it is a pipe; and as files of a run."""

from __future__ import annotations

import json
import re
import sys
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from bench.files import write_atomically
from bench.report.cells import is_numeric


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown, without its index."""
    return table.fillna("").to_markdown(index=False, disable_numparse=True)


def write_table(name: str, table: pd.DataFrame, caption: str, tidy: pd.DataFrame, folder: Path) -> None:
    """Write `name`.md, the table of text with its caption, and `name`.csv, the tidy one, into `folder`.

    Raises:
        StorageError: they cannot be written.
    """
    write_atomically(folder / f"{name}.md", f"{markdown(table)}\n\n{caption}\n")
    write_atomically(folder / f"{name}.csv", tidy.to_csv(index=False))


def print_json(text: str) -> None:
    """Print JSON in ASCII alone, so that it is the same on a stdout of any encoding; outside its strings it is."""
    print(re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], text))


def print_table(table: pd.DataFrame, caption: str) -> None:
    """Print a table of text with its caption. In a terminal, an empty first cell belongs to the group above."""
    if not sys.stdout.isatty():
        print(f"{markdown(table)}\n\n{caption}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(caption=Text(caption), caption_justify="left")
    for column in table.columns:
        drawn.add_column(Text(str(column)), justify="right" if is_numeric(table[column].fillna("")) else "left")
    rows = table.fillna("").to_numpy().tolist()
    grouped = any(not row[0] for row in rows)
    for row, following in zip_longest(rows, rows[1:]):
        drawn.add_row(*map(Text, row), end_section=grouped and following is not None and bool(following[0]))
    Console().print(drawn)
