"""The tables that a set of records can fill, in the paper's order and arrangement."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.records import Record, Stage
from bench.report.cells import Better, best, one_line
from bench.report.chosen import cards_of, one_per_cell, plain_or_all
from bench.report.formats import Table


class Known(NamedTuple):
    """A table's title, and the stages whose results it shows."""

    title: str
    stages: tuple[Stage, ...]


TABLES = {
    "table2": Known("Table 2: accuracy", ("accuracy",)),
    "table3": Known("Table 3: parameters and largest training batch", ("memory",)),
    "table4": Known("Table 4: properties", ("memory", "timing", "accuracy")),
    "timing": Known("Time", ("timing",)),
    "profile": Known("Composition of the peak", ("profile",)),
    "strategies": Known("Table 3 with strategies", ("memory", "timing")),
}
"""What can be selected; each name is that of a module."""

_ONE_PER_CELL = ("table3", "profile")  # which have one place for each cell
_BY_CARD = ("table3", "strategies")


def tables(records: Sequence[Record], select: Iterable[str] = TABLES) -> list[Table]:
    """The selected tables that there are records for."""
    made = (_table(name, records) for name in select)
    return [table for table in made if table is not None]


def _table(name: str, records: Sequence[Record]) -> Table | None:
    module: Any = importlib.import_module(f"bench.report.{name}")
    note = ""
    if name != "strategies":
        records = plain_or_all(records)
    if name in _ONE_PER_CELL:
        (stage,) = TABLES[name].stages
        records, left_out = one_per_cell(records, stage)
        note = f" Not shown: {left_out} older records of these cells, with other settings." if left_out else ""
    frame = module.tidy(records, cards_of(records)) if name in _BY_CARD else module.tidy(records)
    if frame.empty:
        return None
    arranged = module.arranged(frame).fillna("").map(one_line).rename(columns=one_line)
    return Table(
        name=name,
        title=TABLES[name].title,
        tidy=frame,
        arranged=arranged,
        caption=one_line(module.caption(frame) + note),
        best=_BEST[name](arranged),
        labels=max(1, list(arranged.columns).index("")) if "" in arranged.columns else 1,
    )


Marks = Callable[[pd.DataFrame], pd.DataFrame]


def _best_of_rows(better: dict[str, Better], otherwise: Better) -> Marks:
    """Of each row, architecture by architecture; what is better depends on the row's name, in the second column."""

    def marks(arranged: pd.DataFrame) -> pd.DataFrame:
        rows = arranged.to_numpy().tolist()
        found = [[False, False, *best(row[2:], better.get(row[1], otherwise))] for row in rows]
        return pd.DataFrame(found, columns=arranged.columns)

    return marks


def _best_of_columns(better: dict[str, Better]) -> Marks:
    """Of the columns named, among the rows of one task."""

    def marks(arranged: pd.DataFrame) -> pd.DataFrame:
        found = _none(arranged)
        task = arranged.iloc[:, 0].ne("").cumsum()
        for name in [name for name in better if name in arranged.columns]:
            for places in task.groupby(task).groups.values():
                found.loc[places, name] = best(list(arranged.loc[places, name]), better[name])
        return found

    return marks


def _best_of_methods(arranged: pd.DataFrame) -> pd.DataFrame:
    """Of each task's column, the most PSNR and the most SSIM."""
    found = _none(arranged)
    for places in arranged.groupby("").groups.values():
        for task in arranged.columns[list(arranged.columns).index("") + 1 :]:
            found.loc[places, task] = best(list(arranged.loc[places, task]), "most")
    return found


def _none(arranged: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(False, index=arranged.index, columns=arranged.columns)


_BEST: dict[str, Marks] = {
    "table2": _best_of_methods,
    "table3": _best_of_rows({"parameters": "least", "MiB per image": "least"}, "most"),
    "strategies": _none,
    "table4": _none,
    "profile": _none,
    "timing": _best_of_columns({"training step, s": "least", "images/s": "most", "evaluation, s/image": "least"}),
}
