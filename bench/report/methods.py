"""Methods: a classical one, or an architecture trained with one of the losses; and which records belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.records import Record, Stage

INITIALISATION = "initialisation"
CLASSICAL = (INITIALISATION, "gradient descent", "total variation")
"""Records of the stage accuracy that have one of these instead of an architecture's name have learned nothing."""


def loss(record: Record) -> str:
    """The loss that a method is trained with, "final" or "auxiliary"; of a classical one none."""
    return "" if record.architecture in CLASSICAL else str(record.settings["training"]["loss"])


def problem(record: Record) -> str:
    """A name for exactly what is reconstructed: operator, sizes, noise, images, and how many of them."""
    data = record.accuracy.data.model_dump() if record.accuracy else None
    return json.dumps([record.task, record.settings["task"], data], sort_keys=True)


def newest(records: Iterable[Record], stage: Stage) -> list[Record]:
    """The records of a stage, the last one of each method on each task; the classical methods come first."""
    of_stage = [record for record in records if record.stage == stage]
    last = {(record.task, record.architecture, loss(record)): record for record in of_stage}
    return sorted(last.values(), key=lambda record: record.architecture not in CLASSICAL)


def beside(records: Iterable[Record], stage: Stage, record: Record) -> Record | None:
    """The last record of another stage of the same method on the same task, where it succeeded.

    A task stands for itself or for the others of the same row of the paper: memory is that of mri for mri-4x as well.
    """
    wanted = [
        other
        for other in records
        if (other.stage, other.status, other.architecture) == (stage, "ok", record.architecture)
        and loss(other) == loss(record)
        and (other.task == record.task or (other.paper_task is not None and other.paper_task == record.paper_task))
    ]
    return max(wanted, key=lambda other: other.task == record.task, default=None)
