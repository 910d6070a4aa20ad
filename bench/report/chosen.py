"""Which records a report shows, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.records import Record
from bench.report.methods import CLASSICAL
from bench.report.table3 import paper_tables


def joined(records: Iterable[Record]) -> list[Record]:
    """One record per task, architecture, stage and settings: the newest, with the cards of older ones of its key.

    They are in the paper's order: task by task, architecture by architecture; what is not the paper's comes after.
    """
    chosen: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda record: (record.provenance.created, record.stage, record.key)):
        identity = (record.task, record.architecture, record.stage, json.dumps(record.settings, sort_keys=True))
        earlier = chosen.get(identity)
        chosen[identity] = _with_cards_of(earlier, record) if earlier and earlier.key == record.key else record
    return sorted(chosen.values(), key=_place)


def _with_cards_of(earlier: Record, record: Record) -> Record:
    if not earlier.memory or not record.memory:
        return record if record.status == "ok" else earlier
    cards = {card.card: card for card in (*earlier.memory.cards, *record.memory.cards)}
    return record.model_copy(update={"memory": record.memory.model_copy(update={"cards": list(cards.values())})})


def newest_memory(records: Iterable[Record]) -> tuple[list[Record], int]:
    """The memory records, of those of one cell with different settings the newest; and how many are left out."""
    of_memory = [record for record in records if record.stage == "memory"]
    newest: dict[tuple[str, str], Record] = {}
    for record in of_memory:
        cell = (record.task, record.architecture)
        newest[cell] = max(newest.get(cell, record), record, key=lambda each: each.provenance.created)
    return list(newest.values()), len(of_memory) - len(newest)


def _place(record: Record) -> tuple[int, str, int, str]:
    paper = paper_tables()
    tasks = [*paper["parameters"], *paper["accuracy"]]
    methods = [*CLASSICAL, *paper["parameters"]["ct"]]
    return (
        *(_index(tasks, record.task), record.task),
        *(_index(methods, record.architecture), record.architecture),
    )


def _index(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
