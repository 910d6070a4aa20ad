"""What records say of a method in one number: bytes, seconds, calls, and when its validation was how good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from bench.records import Record, Training
from bench.report.methods import beside
from bench.units import MiB


class Quantity(NamedTuple):
    """A number of each record, nan where it has none, and its unit."""

    unit: str
    of: Callable[[Record], float]


BYTES = Quantity(
    "MiB per image", lambda record: record.memory.peak_bytes_per_image["high"] / MiB if record.memory else np.nan
)
STEP = Quantity(
    "s per image",
    lambda record: median(record.timing.training_step_seconds) / record.timing.batch if record.timing else np.nan,
)
EVALUATION = Quantity(
    "s per image",
    lambda record: median(record.timing.evaluation_seconds) / record.timing.batch if record.timing else np.nan,
)
CALLS = Quantity(
    "calls per evaluation",
    lambda record: (
        record.timing.evaluation_calls.forward + record.timing.evaluation_calls.adjoint if record.timing else np.nan
    ),
)


def trainings(record: Record) -> list[Training]:
    """The trainings of a record that came to their end."""
    return [training for training in record.accuracy.trainings if training.status == "ok"] if record.accuracy else []


def validations(training: Training) -> list[tuple[int, float]]:
    """The steps after which there was a validation, and its PSNR in dB."""
    return [(p.step, p.validation_psnr_db) for p in training.curve if p.validation_psnr_db is not None]


def steps_to(training: Training, psnr_db: float) -> float:
    """The first step whose validation is that good; infinite if none is."""
    return float(next((step for step, value in validations(training) if value >= psnr_db), np.inf))


def step_seconds(record: Record, training: Training, timed: Sequence[Record]) -> float:
    """What a step of a training takes: as it was timed by itself, if the network was, else as the training went."""
    timing = beside(record, timed, any_loss=True)
    if timing is not None:
        return STEP.of(timing) * float(record.settings["accuracy"]["batch"])
    return training.training_seconds / (training.curve[-1].step if training.curve else 1)


def timings_of_all(records: Sequence[Record], timed: Sequence[Record]) -> Sequence[Record]:
    """The timings that records are compared by: none where one of their networks was not timed."""
    return timed if all(beside(record, timed, any_loss=True) for record in records) else ()
