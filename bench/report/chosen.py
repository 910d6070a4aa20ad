"""Which records a report shows, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.records import Record, Stage
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


def one_per_cell(records: Iterable[Record], stage: Stage) -> tuple[list[Record], int]:
    """The records of a stage, of those of one cell with different settings the newest; and how many are left out."""
    of_stage = [record for record in records if record.stage == stage]
    newest: dict[tuple[str, str], Record] = {}
    for record in of_stage:
        cell = (record.task, record.architecture)
        newest[cell] = max(newest.get(cell, record), record, key=lambda each: each.provenance.created)
    return list(newest.values()), len(of_stage) - len(newest)


def cards_of(records: Iterable[Record]) -> list[str]:
    """All cards that any of the records answers for."""
    return list(dict.fromkeys(card.card for record in records if record.memory for card in record.memory.cards))
