"""Which of several records is the newest.

In a folder a cell's records are counted (`Record.sequence`), and the count goes before any clock. Between folders there
are clocks alone, and they may have run wrong: what is from the future counts as older than anything else.
"""

from __future__ import annotations

import datetime
import heapq
from collections import defaultdict
from collections.abc import Iterable

from bench.records import Record

TOLERANCE = datetime.timedelta(hours=1)
"""That the clocks of two machines may differ by."""


def is_from_the_future(record: Record) -> bool:
    """Whether a record says that it was made later than now."""
    return record.provenance.made > datetime.datetime.now(datetime.timezone.utc) + TOLERANCE


def by_clock(record: Record) -> tuple[bool, datetime.datetime, str, str]:
    """An order by the time of making, in which what is from the future comes first."""
    return not is_from_the_future(record), record.provenance.made, record.stage, record.key


def oldest_first(folders: Iterable[Iterable[Record]]) -> list[Record]:
    """The records of several folders, by their clocks; but those of one cell and folder in the order of their count."""
    every: list[Record] = []
    counted: dict[tuple[str, ...], list[list[Record]]] = defaultdict(list)
    for records in folders:
        of_cells: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        for record in records:
            every.append(record)
            of_cells[record.cell].append(record)
        for cell, of_cell in of_cells.items():
            counted[cell].append(sorted(of_cell, key=lambda record: (record.sequence, by_clock(record))))
    places = {cell: heapq.merge(*lists, key=by_clock) for cell, lists in counted.items()}
    return [next(places[record.cell]) for record in sorted(every, key=by_clock)]
