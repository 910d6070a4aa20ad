"""The tables that a set of records can fill, in the paper's order and arrangement."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from bench.records import Record
from bench.report import table3
from bench.report.formats import Table
from bench.report.cells import Better, best, one_line

TABLES = {
    "table2": "Table 2: accuracy",
    "table3": "Table 3: parameters and largest training batch",
    "table4": "Table 4: properties",
    "timing": "Time",
}
"""What can be selected, each the name of its module, and its title."""


def tables(records: Sequence[Record], select: Iterable[str] = TABLES) -> list[Table]:
    """The selected tables that there are records for."""
    made = (_table(name, records) for name in select)
    return [table for table in made if table is not None]


def _table(name: str, records: Sequence[Record]) -> Table | None:
    module: Any = importlib.import_module(f"bench.report.{name}")
    frame = _table3(records) if name == "table3" else module.tidy(records)
    if frame.empty:
        return None
    arranged = module.arranged(frame).fillna("").map(one_line).rename(columns=one_line)
    marks = _BEST[name](arranged)
    return Table(name, TABLES[name], frame, arranged, one_line(module.caption(frame)), marks)


def _table3(records: Sequence[Record]) -> pd.DataFrame:
    of_memory = [record for record in records if record.stage == "memory"]
    cards = dict.fromkeys(card.card for record in of_memory if record.memory for card in record.memory.cards)
    return table3.tidy(of_memory, list(cards))


def _best_of_rows(better: dict[str, Better], otherwise: Better) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Of each row, architecture by architecture; what is better depends on the row's name, in the second column."""

    def marks(arranged: pd.DataFrame) -> pd.DataFrame:
        rows = arranged.to_numpy().tolist()
        found = [[False, False, *best(row[2:], better.get(row[1], otherwise))] for row in rows]
        return pd.DataFrame(found, columns=arranged.columns)

    return marks


def _best_of_columns(better: dict[str, Better]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Of the columns named, among the rows of one task."""

    def marks(arranged: pd.DataFrame) -> pd.DataFrame:
        found = pd.DataFrame(False, index=arranged.index, columns=arranged.columns)
        task = arranged.iloc[:, 0].ne("").cumsum()
        for name in better.keys() & set(arranged.columns):
            found[name] = arranged[name].groupby(task).transform(lambda cells, b=better[name]: best(list(cells), b))
        return found

    return marks


_BEST: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "table3": _best_of_rows({"parameters": "least", "MiB per image": "least"}, "most"),
    "timing": _best_of_columns({"training step, s": "least", "images/s": "most", "evaluation, s/image": "least"}),
}
