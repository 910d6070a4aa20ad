"""Markdown: report.md, the arranged tables with their captions."""

from __future__ import annotations

import re

import pandas as pd

from bench.report.cells import split_number
from bench.report.formats import Report, Table
from bench.report.terminal import markdown


def files(report: Report) -> dict[str, bytes]:
    """One file with all tables; the best of each comparison in bold."""
    sections = ["# bench report", *(_section(table) for table in report.tables), escape(report.provenance.credit)]
    return {"report.md": ("\n\n".join(sections) + "\n").encode()}


def _section(table: Table) -> str:
    rows = zip(table.arranged.to_numpy().tolist(), table.best.to_numpy().tolist(), strict=True)
    text = pd.DataFrame(
        [[_bold(cell, is_best) for cell, is_best in zip(*row, strict=True)] for row in rows],
        columns=[escape(str(name)) for name in table.arranged],
    )
    return f"## {escape(table.title)}\n\n{markdown(text)}\n\n{escape(table.caption)}"


def _bold(cell: str, is_best: bool) -> str:
    number, rest = split_number(cell) if is_best else ("", cell)
    return (f"**{number}**" if number else "") + escape(rest)


def escape(text: str) -> str:
    """Keep text from being read as Markdown or HTML."""
    return re.sub(r"([\\|*`<])", r"\\\1", text)
