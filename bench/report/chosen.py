"""Which records a report shows, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.records import Record
from bench.report.methods import in_order


def joined(records: Iterable[Record]) -> list[Record]:
    """One record per task, architecture, stage and settings: the newest, with the cards of older ones of its key.

    They are in the order in which tables show them.
    """
    chosen: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda record: (record.provenance.created, record.stage, record.key)):
        identity = (record.task, record.architecture, record.stage, json.dumps(record.settings, sort_keys=True))
        earlier = chosen.get(identity)
        chosen[identity] = _with_cards_of(earlier, record) if earlier and earlier.key == record.key else record
    return in_order(chosen.values())


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
