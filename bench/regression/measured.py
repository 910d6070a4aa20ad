"""A record, reduced to what is compared: numbers, and what they are true of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import UsageError
from bench.records import Accuracy, Composition, Memory, PsnrDb, Record, Seconds, Stage, Timing

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
    """Numbers are numbers; a PSNR, which alone may be infinite, is a text then."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="strings")


REPEATED: tuple[Name, ...] = ("training_step_seconds", "evaluation_seconds")
PSNR: Name = "psnr_db"
"""What has a number for each repeat or test image; all others are one number."""


class Quantity(_Part):
    """One number of a cell, or one per repeat or test image.

    Attributes:
        name: what it is.
        of: which one, where there are several: "8GB, high".
        value: the number; seconds of each repeat; PSNR of each test image.
        at: what must be equal for two of them to be comparable, such as the batch of a peak.
    """

    name: Name
    of: str = ""
    value: Annotated[int, Field(ge=0, lt=2**63)] | Annotated[tuple[Seconds | PsnrDb, ...], Field(min_length=1)]
    at: dict[str, Any] = {}

    @property
    def called(self) -> str:
        """Its name and which one: "largest_batch (8GB, high)"."""
        return self.name + (f" ({self.of})" if self.of else "")

    @model_validator(mode="after")
    def _is_such_a_number(self) -> Quantity:
        several = self.value if isinstance(self.value, tuple) else None
        if (several is None) == (self.name in (*REPEATED, PSNR)):
            raise ValueError(
                f"{self.name} is {'one number' if several is None else 'several numbers'}: expected the other"
            )
        if several and self.name in REPEATED and not all(0 < seconds < inf for seconds in several):
            raise ValueError(f"{self.name} from {min(several):g} to {max(several):g}: expected more than 0, and finite")
        return self


class Measured(_Part):
    """One stage of one cell.

    Attributes:
        conditions: what must be equal for two of them to be comparable: settings, preset and torch's version.
        failure: why there are no numbers, on one line.
        quantities: its numbers, each once.
        composition: of its memory, where somebody asked for it.
    """

    task: str
    architecture: str
    stage: Stage
    conditions: dict[str, Any]
    failure: str | None = None
    quantities: tuple[Quantity, ...] = ()
    composition: Composition | None = None

    @model_validator(mode="after")
    def _has_each_once(self) -> Measured:
        times = Counter(quantity.called for quantity in self.quantities)
        twice = [called for called, number in times.items() if number > 1]
        if twice:
            raise ValueError(f"{twice[0]} of {self.architecture} on {self.task} more than once")
        return self

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
    """What is compared of a record, with the composition of its memory if that is known.

    Raises:
        UsageError: a number in it is none that can be compared.
    """
    failure = _failure(record)
    try:
        return Measured(
            task=record.task,
            architecture=record.architecture,
            stage=record.stage,
            conditions=conditions(record.stage, record.settings, record.preset, record.provenance.torch),
            failure=failure,
            quantities=() if failure else tuple(_quantities(record)),
            composition=composition,
        )
    except ValidationError as error:
        where = f"{record.architecture} on {record.task}, {record.stage} ({record.key})"
        what = error.errors()[0]["msg"]
        raise UsageError(
            f"the record of {where} is damaged ({what}): remove it or make it again with `bench run`"
        ) from error


def _failure(record: Record) -> str | None:
    """Why there is nothing to compare, on one line: the cell failed, or none of its trainings came to its end."""
    reason = None
    if record.status == "failed":
        reason = record.reason or "for no reason that it says"
    elif record.accuracy and all(training.status == "diverged" for training in record.accuracy.trainings):
        reason = f"diverged: {record.accuracy.trainings[0].reason}"
    return " ".join(reason.split()) if reason else None


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
    """The PSNR of all test images, seed by seed, and how many trainings have none."""
    at = {"data": accuracy.data.model_dump(mode="json")}
    psnr_db = [value for training in accuracy.trainings for value in training.psnr_db]
    if psnr_db:
        yield Quantity(name=PSNR, value=tuple(psnr_db), at=at)
    diverged = sum(training.status == "diverged" for training in accuracy.trainings)
    yield Quantity(name="diverged_trainings", value=diverged, at=at)
