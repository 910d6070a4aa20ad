"""A record, reduced to what is compared: numbers, and what they are true of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.records import Accuracy, Composition, Memory, Record, Stage, Timing

Name = Literal[
    "largest_batch",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_bytes_per_image",
    "parameters",
    "training_step_seconds",
    "evaluation_seconds",
    "psnr_db",
    "diverged_trainings",
]
"""What is compared, what says most first; [check.limits] in bench.toml has a limit for each."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(_Part):
    """One number of a cell, or one per repeat.

    Attributes:
        name: what it is.
        of: which one, where there are several: "8GB, high".
        value: the number, or that of each repeat.
        at: what must be equal for two of them to be comparable, such as the batch of a peak.
    """

    name: Name
    of: str = ""
    value: int | float | Annotated[tuple[float, ...], Field(min_length=1)]
    at: dict[str, Any] = {}


class Measured(_Part):
    """One stage of one cell.

    Attributes:
        conditions: what must be equal for two of them to be comparable: settings, preset and torch's version.
        failure: why there are no numbers, on one line.
        composition: of its memory, where somebody asked for it.
    """

    task: str
    architecture: str
    stage: Stage
    conditions: dict[str, Any]
    failure: str | None = None
    quantities: tuple[Quantity, ...] = ()
    composition: Composition | None = None

    @property
    def name(self) -> tuple[str, str, str]:
        """Task, architecture and stage."""
        return self.task, self.architecture, self.stage

    @property
    def cards(self) -> list[str]:
        """The cards that its numbers are of."""
        return list(dict.fromkeys(q.at["card"] for q in self.quantities if "card" in q.at))


def all_reduced(records: Sequence[Record]) -> list[Measured]:
    """What is compared of records. A profile is no cell of its own: it says what the memory of its cell is made of."""
    profiles = {_recorded(record): record.profile for record in records if record.profile}
    cells = []
    for record in records:
        profile = profiles.get(_recorded(record)) if record.memory else None
        if record.stage != "profile":
            cells.append(reduced(record, profile.reference if profile else None))
    return cells


def _recorded(record: Record) -> str:
    """A name for the training step whose memory, or profile, a record is of."""
    step = {name: record.settings[name] for name in ("model", "task", "training")}
    how = {name: record.settings["memory"][name] for name in ("steps", "alloc_conf")}
    return json.dumps([record.task, record.architecture, step, how, record.provenance.torch], sort_keys=True)


def reduced(record: Record, composition: Composition | None = None) -> Measured:
    """What is compared of a record, with the composition of its memory if that is known."""
    return Measured(
        task=record.task,
        architecture=record.architecture,
        stage=record.stage,
        conditions=conditions(record.stage, record.settings, record.preset, record.provenance.torch),
        failure=" ".join((record.reason or "").split()) if record.status == "failed" else None,
        quantities=tuple(_quantities(record)),
        composition=composition,
    )


def conditions(stage: Stage, settings: dict[str, Any], preset: str | None, torch: str) -> dict[str, Any]:
    """What must be equal, as JSON has it, keys in order.

    A simulation is the same with every build of a release of torch ("2.13.0+cpu"); what is measured is not.
    """
    is_simulated = stage == "memory" and settings["memory"]["engine"] == "simulated"
    torch = torch.split("+")[0] if is_simulated else torch
    return dict(json.loads(json.dumps({**settings, "preset": preset, "torch": torch}, sort_keys=True)))


def _quantities(record: Record) -> Iterator[Quantity]:
    if record.memory:
        yield from _of_memory(record.memory)
    if record.parameters:
        yield Quantity(name="parameters", value=record.parameters.trainable)
    if record.timing:
        yield from _of_timing(record.timing)
    if record.accuracy:
        yield from _of_accuracy(record.accuracy)


def _of_memory(memory: Memory) -> Iterator[Quantity]:
    """The largest batches, their peaks (comparable where the batch is the same), and the bytes of one more image."""
    for card in memory.cards:
        for bound, edge in card.edges.items():
            of = f"{card.card}, {bound}"
            at = {"card": card.card, "total_bytes": card.total_bytes, "context_bytes": card.context_bytes}
            if bound == "exact":
                at["cudnn"] = card.cudnn
            yield Quantity(name="largest_batch", of=of, value=edge.largest_batch, at=at)
            at = {**at, "batch": edge.largest_batch}
            if edge.peak_allocated_bytes is not None:
                yield Quantity(name="peak_allocated_bytes", of=of, value=edge.peak_allocated_bytes, at=at)
            if edge.peak_reserved_bytes is not None:
                yield Quantity(name="peak_reserved_bytes", of=of, value=edge.peak_reserved_bytes, at=at)
    for bound, size_bytes in memory.peak_bytes_per_image.items():
        yield Quantity(name="peak_bytes_per_image", of=bound, value=size_bytes)


def _of_timing(timing: Timing) -> Iterator[Quantity]:
    at = {"device": timing.device, "threads": timing.threads, "batch": timing.batch}
    if timing.training_step_seconds:
        yield Quantity(name="training_step_seconds", value=tuple(timing.training_step_seconds), at=at)
    if timing.evaluation_seconds:
        yield Quantity(name="evaluation_seconds", value=tuple(timing.evaluation_seconds), at=at)


def _of_accuracy(accuracy: Accuracy) -> Iterator[Quantity]:
    """The mean over all test images and seeds, and how many trainings have none."""
    at = {"data": accuracy.data.model_dump(mode="json")}
    psnr_db = [value for training in accuracy.trainings for value in training.psnr_db]
    if psnr_db:
        yield Quantity(name="psnr_db", value=fmean(psnr_db), at=at)
    diverged = sum(training.status == "diverged" for training in accuracy.trainings)
    yield Quantity(name="diverged_trainings", value=diverged, at=at)
