"""Methods: a classical one, or an architecture trained with one of the losses; and which records belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bench.records import Record, Stage
from bench.records.ages import by_clock
from bench.report.paper import paper_tables

INITIALISATION = "initialisation"
CLASSICAL = (INITIALISATION, "filtered backprojection", "gradient descent", "total variation")
"""Records of the stage accuracy that have one of these instead of an architecture's name have learned nothing."""


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records as tables and pictures show them: task by task, classical methods first, in the paper's order.

    What the paper does not have comes behind, by its name; records of one method on one task stay as they are.
    """
    paper = paper_tables()
    tasks = [*paper["parameters"], *paper["accuracy"]]
    methods = [*CLASSICAL, *paper["parameters"]["ct"]]

    def place(name: str, known: list[str]) -> tuple[int, str]:
        return (known.index(name), "") if name in known else (len(known), name)

    return sorted(
        records,
        key=lambda record: (
            place(record.task, tasks),
            place(record.architecture, methods),
            loss(record) == "auxiliary",
        ),
    )


def loss(record: Record) -> str:
    """The loss that a method is trained with, "final" or "auxiliary"; of a classical one none."""
    return "" if record.architecture in CLASSICAL else str(record.settings["training"]["loss"])


def label(record: Record, records: Iterable[Record]) -> str:
    """The method's name: the architecture's, with the loss where `records` have it trained with several."""
    losses = {loss(other) for other in records if other.architecture == record.architecture}
    return f"{record.architecture}, {loss(record)}" if len(losses) > 1 else record.architecture


def problem(record: Record) -> str:
    """A name for exactly what is reconstructed: operator, sizes, noise, images, and how many of them."""
    data = record.accuracy.data.model_dump() if record.accuracy else None
    return json.dumps([record.task, record.settings["task"], data], sort_keys=True)


def by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each task, tasks and records in their order."""
    tasks: dict[str, list[Record]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record)
    return tasks


def outcome_and_sizes(record: Record) -> dict[str, Any]:
    """What became of a record, and at which sizes: columns of a tidy table."""
    model = record.settings["model"]
    return {
        "status": record.status,
        "reason": record.reason,
        "preset": record.preset,
        "image_shape": "x".join(map(str, record.image_shape or ())),
        "stages": model["stages"],
        "max_evaluations": model["solver"]["max_evaluations"],
    }


def conditions(records: Iterable[Record]) -> str:
    """At which sizes and on which devices results were measured, in words: "preset demo, cpu"."""
    parts = [(record.preset, record.timing or record.accuracy) for record in records]
    presets = [f"preset {preset}" for preset in dict.fromkeys(preset for preset, _ in parts if preset)]
    return ", ".join([*presets, *dict.fromkeys(part.device for _, part in parts if part)])


def newest(records: Iterable[Record], stage: Stage) -> list[Record]:
    """The results of a stage that can be held against each other: of each method on each task the last one.

    Those that were measured under other conditions than the last one of their task are left out: at other sizes, on
    another device or on other images.
    """
    done = [record for record in records if record.stage == stage and record.status == "ok"]
    current = {record.task: _conditions(record) for record in sorted(done, key=by_clock)}
    alike = [record for record in done if _conditions(record) == current[record.task]]
    return list({(record.task, record.architecture, loss(record)): record for record in alike}.values())


def _conditions(record: Record) -> tuple[object, ...]:
    timing = record.timing
    device = (timing.device, timing.threads, timing.batch_chosen) if timing else None
    engine = json.dumps(record.settings.get("memory"), sort_keys=True)
    return record.preset, record.image_shape, device, engine, record.settings.get("card"), problem(record)


def network(record: Record, *, any_loss: bool = False) -> tuple[object, ...]:
    """What makes a network and its training step: architecture, options, sizes, loss; not what it is trained on."""
    model = json.dumps(record.settings["model"], sort_keys=True)
    return record.architecture, None if any_loss else loss(record), record.image_shape, model


def beside(record: Record, others: Iterable[Record], *, any_loss: bool = False) -> Record | None:
    """The very same network on the same task among `others`, which are of another stage; None if there is none.

    A task stands for itself, or else for one of the same row of the paper: the time of mri is that of mri-4x.
    With `any_loss` a network that is trained with another loss is the same.
    """
    wanted = [
        other
        for other in others
        if network(other, any_loss=any_loss) == network(record, any_loss=any_loss)
        and (other.task == record.task or (other.paper_task is not None and other.paper_task == record.paper_task))
    ]
    return max(wanted, key=lambda other: other.task == record.task, default=None)
