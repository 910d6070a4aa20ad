"""Tables of text: on stdout drawn where it is a terminal, plain Markdown where it is a pipe; and as files of a run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.files import write_atomically
from bench.report.terminal import layout


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


def print_table(table: pd.DataFrame, caption: str, least: Sequence[str] = ()) -> None:
    """Print a table of text with its caption. In a terminal, an empty first cell belongs to the group above.

    Args:
        table: of text.
        caption: below it; may be empty.
        least: columns that may be left out where a terminal is too narrow, the one that matters least first.
    """
    print_parts([table, caption], least)


def print_parts(parts: Sequence[pd.DataFrame | str], least: Sequence[str] = ()) -> None:
    """Print tables and paragraphs with an empty line between them; `least` as for `print_table`."""
    texts: list[str] = []
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for part in parts:
        if isinstance(part, pd.DataFrame):
            text = markdown(part) if columns is None else layout.drawn(part.fillna("").astype(str), least, columns)
        else:
            text = part if columns is None else _paragraph(part, columns)
        texts += [text] if text else []
    print("\n\n".join(texts))


def _paragraph(text: str, columns: int) -> str:
    """Text in lines of at most so many columns; those of a list are indented."""
    lines = text.split("\n")
    return "\n".join(layout.wrapped(line, columns, indent="  " if line.startswith("* ") else "") for line in lines)
