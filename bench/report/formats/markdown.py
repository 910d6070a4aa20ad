"""Markdown: report.md, the arranged tables with their captions."""

from __future__ import annotations

import re

from bench.report.formats import Report, Table
from bench.report.terminal import markdown


def files(report: Report) -> dict[str, bytes]:
    """One file with all tables; the best of each comparison in bold."""
    sections = ["# bench report", *(_section(table) for table in report.tables)]
    return {"report.md": ("\n\n".join(sections) + "\n").encode()}


def _section(table: Table) -> str:
    text = table.arranged.map(escape)
    text = text.where(~table.best, "**" + text + "**").rename(columns=escape)
    return f"## {escape(table.title)}\n\n{markdown(text)}\n\n{escape(table.caption)}"


def escape(text: str) -> str:
    """Keep text from being read as Markdown or HTML."""
    return re.sub(r"([\\|*`<])", r"\\\1", text)
