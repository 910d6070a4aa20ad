"""Which records a report shows, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.records import Record, Stage, united
from bench.records.ages import oldest_first
from bench.report.methods import in_order
from bench.strategies.naming import is_plain


def joined(*folders: Iterable[Record]) -> list[Record]:
    """One record per task, architecture, stage and settings: the newest, with the cards of older ones of its key.

    They are in the order in which tables show them, and those of one method on one task in that of their age.
    """
    chosen: dict[tuple[str, ...], Record] = {}
    for record in oldest_first(folders):
        identity = (*record.cell, json.dumps(record.settings, sort_keys=True))
        earlier = chosen.pop(identity, None)
        chosen[identity] = united(earlier, record) if earlier and earlier.key == record.key else record
    return in_order(chosen.values())


def one_per_cell(records: Iterable[Record], stage: Stage) -> tuple[list[Record], int]:
    """The records of a stage, of those of one cell with different settings the last; and how many are left out."""
    of_stage = [record for record in records if record.stage == stage]
    last = {record.cell: record for record in of_stage}
    return list(last.values()), len(of_stage) - len(last)


def plain_or_all(records: Iterable[Record]) -> list[Record]:
    """The records of cells without strategies; all of them where every cell has one."""
    every = list(records)
    return [record for record in every if is_plain(record.architecture)] or every


def cards_of(records: Iterable[Record]) -> list[str]:
    """All cards that any of the records answers for."""
    return list(dict.fromkeys(card.card for record in records if record.memory for card in record.memory.cards))
