"""How a table of text is laid out in a terminal of some width, so that no name and no number is cut.

Text breaks at spaces alone, and numbers not even there. Where a table is still too wide, the groups of its first column
become headings; then the columns that matter least are left out, as far as they are named; and where that is not
enough, the table is turned on its side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

import pandas as pd

from bench.report.cells import is_numeric

LEAST = {
    "timing": ("A + Aᵀ", "A + Aᵀ per step", "solver evaluations", "image", "images/s", "batch"),
    "strategies": ("time", "MiB per image"),
    "breakdown": ("of the card", "blocks", "operation", "module"),
    "verdicts": ("others", "stage"),
    "why": ("before", "now", "category"),
    "validation": ("recording alone", "card alone", "temporaries", "events of both", "allocated"),
    "data": ("origin", "licence", "validation", "test"),
}
"""Of tables, by name, the columns that may be left out, the one that matters least first."""

READABLE = 18  # characters of a column of prose: with less, it would be a word on each line
NUMBERS = 36  # characters of the longest cell of numbers: "25.15 ± 3.35 (+2.92) / 29.93"; beyond, it is prose

_GAP = 2  # spaces between columns


def widths(table: pd.DataFrame, columns: int) -> list[int] | None:
    """The width of each column in a terminal of so many `columns`, or None where the table is too wide for it.

    What is left over beyond the least widths goes to the columns that have longer text, in equal shares.
    """
    least, most = [], []
    for name in table.columns:
        texts = [str(text) for text in table[name]]
        longest = max(map(len, texts), default=0)
        most.append(max(longest, len(str(name))))
        unbroken = longest if is_numbers(texts) else max(_longest_word(texts), min(longest, READABLE))
        least.append(max(unbroken, _longest_word([str(name)])))
    spare = columns - sum(least) - _GAP * (len(least) - 1)
    if spare < 0:
        return None
    while spare and least != most:
        short = [place for place, width in enumerate(least) if width < most[place]]
        for place in short[:spare]:
            least[place] += 1
        spare = max(spare - len(short), 0)
    return least


def drawn(table: pd.DataFrame, least: Sequence[str], columns: int) -> str:
    """The table in lines of at most so many columns; only a word longer than that makes a longer line.

    Args:
        table: of text. An empty first cell belongs to the group above.
        least: columns that may be left out, the one that matters least first.
        columns: of the terminal.
    """
    is_grouped = any(not first for first in table.iloc[:, 0])
    names = [name for name in least if name in table.columns]
    for count in range(len(names) + 1):
        rest = table.drop(columns=names[:count])
        left_out = [str(name) for name in table.columns if name not in rest.columns]
        note = "\n" + wrapped(f"(not in {columns} columns: {', '.join(left_out)})", columns) if left_out else ""
        if found := widths(rest, columns):
            return _upright(rest, found, is_grouped) + note
        if is_grouped and (found := widths(rest.iloc[:, 1:], columns)):
            return _with_headings(rest, found) + note
    return _on_its_side(table, columns)


def _upright(table: pd.DataFrame, width: Sequence[int], is_grouped: bool) -> str:
    """Names of columns, a rule, and rows; groups of rows with an empty line between them."""
    are_right = [is_numbers(list(table.iloc[:, place])) for place in range(len(width))]
    lines = [*_row([str(name) for name in table.columns], width, are_right), "  ".join("-" * each for each in width)]
    for place, cells in enumerate(table.to_numpy().tolist()):
        if is_grouped and place and cells[0]:
            lines.append("")
        lines += _row(cells, width, are_right)
    return "\n".join(lines)


def _with_headings(table: pd.DataFrame, width: Sequence[int]) -> str:
    """The same, in which each group has its name above it and no column."""
    rest = table.iloc[:, 1:]
    are_right = [is_numbers(list(rest.iloc[:, place])) for place in range(len(width))]
    lines = [*_row([str(name) for name in rest.columns], width, are_right), "  ".join("-" * each for each in width)]
    for place, (first, *cells) in enumerate(table.to_numpy().tolist()):
        lines += ([""] if place else []) + [str(first)] if first else []
        lines += _row(cells, width, are_right)
    return "\n".join(lines)


def _row(cells: Sequence[str], width: Sequence[int], are_right: Sequence[bool]) -> list[str]:
    """One row in as many lines as its longest cell takes."""
    columns = [wrapped(cell, each).split("\n") for cell, each in zip(cells, width, strict=True)]
    return [
        "  ".join(
            text.rjust(each) if is_right else text.ljust(each)
            for text, each, is_right in zip(line, width, are_right, strict=True)
        ).rstrip()
        for line in zip_longest(*columns, fillvalue="")
    ]


def _on_its_side(table: pd.DataFrame, columns: int) -> str:
    """Each row of the table as a few lines, "column  text"; an empty first cell is that of the row above.

    A word longer than a line stays whole.
    """
    names = [str(name) for name in table.columns]
    margin = max(map(len, names), default=0) + 2
    blocks, first = [], ""
    for row in table.to_numpy().tolist():
        first = str(row[0]) or first
        cells = [(name, text) for name, text in zip(names, [first, *map(str, row[1:])], strict=True) if text]
        blocks.append("\n".join(_cell(name, text, margin, columns) for name, text in cells))
    return "\n\n".join(blocks)


def wrapped(text: str, columns: int, *, indent: str = "") -> str:
    """Text in lines of at most so many columns, in which long words stay whole."""
    return textwrap.fill(text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def is_numbers(texts: Sequence[str]) -> bool:
    """Whether a column has numbers in it and nothing so long that it has to break."""
    return is_numeric(texts) and max(map(len, texts), default=0) <= NUMBERS


def _cell(name: str, text: str, margin: int, columns: int) -> str:
    """One cell: its lines stand beside the name, or below it where a word would not have room there."""
    if margin + _longest_word([text]) > columns:
        return f"{name}\n" + textwrap.indent(wrapped(text, columns - 2), "  ")
    lines = wrapped(text, columns - margin).split("\n")
    return f"{name:{margin}}" + f"\n{'':{margin}}".join(lines)


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=0)
