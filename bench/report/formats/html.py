"""HTML: report.html, one page that needs nothing else, not even a network.

Its script is named by its hash in the page's content security policy: no other script runs, whatever a record contains.
"""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from bench.report.cells import is_numeric, is_prose, leading_number, split_number
from bench.report.formats import Figure, Report, Table
from bench.report.plots.palette import in_both

_FOLDER = Path(__file__).parent
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


SECTIONS = (
    ("Largest training batch", ("table3", "strategies"), ("largest-batch", "memory-by-batch")),
    ("Why: what the memory is made of", ("profile",), ("composition", "timeline")),
    ("Time", ("timing",), ("time-against-memory",)),
    ("Quality", ("table2",), ("psnr-against-memory", "psnr-against-time", "training-curves", "figure-2")),
    ("Properties", ("table4",), ()),
)
"""Heading, tables and figures of the page's sections, the answer first; one that has nothing to show is left out."""

_PLAIN = " ,.:;/()[]+=*|"
"""What an address of data may have as it is."""

_WIDE = 1.8  # width over height, from which on a picture takes a row of the page


def files(report: Report) -> dict[str, bytes]:
    """The page."""
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    tables = {table.name: table for table in report.tables}
    figures = {figure.name: figure for figure in report.figures}
    known = {name for _, *groups in SECTIONS for names in groups for name in names}
    rest = ("More", [name for name in tables if name not in known], [name for name in figures if name not in known])
    sections = [
        {
            "name": heading.partition(":")[0].lower().replace(" ", "-"),
            "title": heading,
            "tables": [_table(tables[name]) for name in names if name in tables],
            "figures": [_figure(figures[name]) for name in pictures if name in figures],
        }
        for heading, names, pictures in (*SECTIONS, rest)
    ]
    page = _ENVIRONMENT.get_template("page.html.jinja").render(
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
        title=" · ".join(["bench report", *map(_short, report.provenance.heading)]),
        found=report.found,
        summary=report.provenance.summary,
        sections=[section for section in sections if section["tables"] or section["figures"]],
        shared_settings=report.provenance.shared_settings,
        records=_records(report.provenance.records),
    )
    return {"report.html": page.encode()}


def _short(text: str) -> str:
    return textwrap.shorten(text, 80, placeholder=" ...")


def _table(table: Table) -> dict[str, Any]:
    """A table's columns and rows, and the tidy one as a file inside a link."""
    csv = table.tidy.to_csv(index=False)
    return {
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "csv": f"data:text/csv;charset=utf-8,{quote(csv, safe=_PLAIN)}",
        "parts": list(table.parts),
        "labels": table.labels,
        **_rows(table.arranged, table.best, table.labels, list(table.parts.values())),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "caption": figure.caption,
        "panels": [
            {
                "wide": _is_wide(svg),
                "photos": "<image" in svg,
                "svg": Markup(inline(svg, f"{figure.name}-{number}", f"{figure.caption}: {task}")),
            }
            for number, (task, svg) in enumerate(figure.panels.items())
        ],
    }


def _is_wide(svg: str) -> bool:
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    return box is not None and float(box[1]) > _WIDE * float(box[2])


def _rows(arranged: pd.DataFrame, best: pd.DataFrame, labels: int, parts: Sequence[str]) -> dict[str, Any]:
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
        cells = [_cell(*cell, parts) for cell in list(zip(texts, kinds, marks, strict=True))[labels:]]
        rows.append((bool(texts[0]), group, cells))
    return {"columns": list(zip(names, kinds, strict=True)), "rows": rows}


def _kind(column: pd.Series[str]) -> str:
    return "number" if is_numeric(column) else "prose" if is_prose(column) else ""


def _cell(text: str, kind: str, is_best: bool, parts: Sequence[str]) -> dict[str, Any]:
    """A cell: its gist, a number or a word, apart from the rest and from its parts; and the number, to sort by."""
    shown: list[tuple[int, str]] = []
    for number, pattern in enumerate(parts):
        if "rows" not in kind and (end := re.search(pattern, text)):
            text, shown = text[: end.start()], [(number, text[end.start() :]), *shown]
    gist, rest = text, ""
    if "number" in kind:
        gist, rest = split_number(text)
    elif "prose" in kind:
        gist, bracket, rest = text.partition(" (")
        rest = bracket + rest
    key = leading_number(gist) if "number" in kind else None
    return {"key": key, "gist": gist, "rest": rest, "parts": shown, "classes": f"{kind} best" if is_best else kind}


def _records(records: pd.DataFrame) -> dict[str, Any]:
    return _rows(records, pd.DataFrame(False, index=records.index, columns=records.columns), labels=1, parts=())


def inline(svg: str, prefix: str, name: str) -> str:
    """An SVG file as an element of a page that holds others: named, without prolog, its ids its own, light and dark."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r">\s+<", "><", element)
    element = re.sub(r' d="([^"]*)"', lambda path: f' d="{_shorter(path[1])}"', element)
    element = _PLACES.sub(lambda place: re.sub(r"(\.\d)\d+", r"\1", place[0]), element)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", element)
    return f'<svg role="img" aria-label="{escape(name)}"{in_both(element)[len("<svg") :]}'


_PLACES = re.compile(r' (?:x|y|x1|y1|x2|y2|width|height)="-?\d+\.\d+"|translate\([^)]*\)')
"""Coordinates outside paths, which a tenth of a point is enough for too."""


def _shorter(path: str) -> str:
    """The same path to a tenth of a point, without points that lie between two others of the same height."""
    steps: list[list[str]] = []
    for step in re.findall(r"[A-Za-z][^A-Za-z]*", path):
        numbers = [f"{float(number):.1f}".removesuffix(".0") for number in step[1:].split()]
        new = [step[0], *numbers]
        level = [each[0] == "L" and each[2] == new[-1] for each in steps[-2:]] if new[0] == "L" else []
        if level == [True, True]:
            steps[-1] = new
        else:
            steps.append(new)
    return "".join(step + " ".join(numbers) for step, *numbers in steps)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
