"""A report in every format: one module each, behind `files(report)`, which names files and says what is in them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import pandas as pd

FORMATS = ("markdown", "csv", "parquet", "latex", "html")
"""The formats that are files. What is printed on a terminal is `bench.report.terminal`'s."""


@dataclass(frozen=True)
class Table:
    """One table: `name` is that of its files.

    `tidy` has one row per observation, for programs. `arranged` is text, for people, in the paper's arrangement.
    Its first `labels` columns name groups of rows: where the first is empty, they are those of the row above. `best` is
    True where a cell of `arranged` is the best of its comparison. `parts` are patterns of what a cell has at its end
    besides its own number, by their names, the last one first; a page shows them on demand.
    """

    name: str
    title: str
    tidy: pd.DataFrame
    arranged: pd.DataFrame
    caption: str
    best: pd.DataFrame
    labels: int
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A picture: whole SVG files as text, one for each task."""

    name: str
    caption: str
    panels: Mapping[str, str]


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from: the settings that records of a stage and preset share, and a row per record.

    `heading` says it in a few words: tasks, days and commits. `credit` is the line beneath a table or picture.
    """

    heading: tuple[str, ...]
    credit: str
    summary: dict[str, str]
    shared_settings: dict[str, dict[str, str]]
    records: pd.DataFrame


@dataclass(frozen=True)
class Report:
    """Everything there is to show; `found` is the answer in a sentence."""

    tables: list[Table]
    figures: list[Figure]
    provenance: Provenance
    found: str = ""


class Format(Protocol):
    """What each module of this package is."""

    def files(self, report: Report) -> dict[str, bytes]:
        """The files of a report by name. The same report gives the same bytes."""


def format_named(name: str) -> Format:
    """The module of one of `FORMATS`; what it needs is imported only now."""
    return cast(Format, importlib.import_module(f"bench.report.formats.{name}"))
