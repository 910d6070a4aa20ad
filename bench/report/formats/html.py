"""HTML: report.html, one page that needs nothing else, not even a network.

Its script is named by its hash in the page's content security policy: no other script runs, whatever a record contains.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from bench.report.cells import is_numeric, is_prose, leading_number, split_number
from bench.report.formats import Report, Table

_FOLDER = Path(__file__).parent
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def files(report: Report) -> dict[str, bytes]:
    """The page."""
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    page = _ENVIRONMENT.get_template("page.html.jinja").render(
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
        summary=report.provenance.summary,
        tables=[{"name": t.name, "title": t.title, "caption": t.caption} | _body(t) for t in report.tables],
        figures=[
            {
                "caption": figure.caption,
                "svg": Markup(inline(figure.svg, figure.name)),
                "photos": "<image" in figure.svg,
            }
            for figure in report.figures
        ],
        shared_settings=report.provenance.shared_settings,
        records=_records(report.provenance.records),
    )
    return {"report.html": page.encode()}


def _body(table: Table) -> dict[str, Any]:
    """A table's columns and rows, and the tidy one as a file inside a link."""
    csv = table.tidy.to_csv(index=False).encode()
    return _rows(table.arranged, table.best, table.labels) | {"csv": f"data:text/csv;base64,{_base64(csv)}"}


def _rows(arranged: pd.DataFrame, best: pd.DataFrame, labels: int) -> dict[str, Any]:
    """Columns as (name, classes), and rows as (a group begins, its labels, the other cells).

    The column that names the rows stays in sight: the one without a name, or else the second.
    """
    kinds = [_kind(arranged[name]) for name in arranged]
    names = list(arranged.columns)
    kinds[names.index("") if "" in names else 1] += " rows"
    rows: list[tuple[bool, list[str], list[dict[str, Any]]]] = []
    group: list[str] = []
    for texts, marks in zip(arranged.to_numpy().tolist(), best.to_numpy().tolist(), strict=True):
        group = texts[:labels] if texts[0] or not group else group
        cells = [_cell(*cell) for cell in list(zip(texts, kinds, marks, strict=True))[labels:]]
        rows.append((bool(texts[0]), group, cells))
    return {"columns": list(zip(names, kinds, strict=True)), "rows": rows}


def _kind(column: pd.Series[str]) -> str:
    return "number" if is_numeric(column) else "prose" if is_prose(column) else ""


def _cell(text: str, kind: str, is_best: bool) -> dict[str, Any]:
    """A cell: its gist, a number or a word, apart from the rest; and the number as a key to sort by."""
    gist, rest = text, ""
    if "number" in kind:
        gist, rest = split_number(text)
    elif "prose" in kind:
        gist, bracket, rest = text.partition(" (")
        rest = bracket + rest
    key = leading_number(gist) if "number" in kind else None
    return {"key": key, "gist": gist, "rest": rest, "classes": f"{kind} best" if is_best else kind}


def _records(records: pd.DataFrame) -> dict[str, Any]:
    return _rows(records, pd.DataFrame(False, index=records.index, columns=records.columns), labels=1)


def inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page that holds others: without prolog, its ids its own."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", element)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
