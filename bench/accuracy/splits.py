"""The measured images of a cell: those to train on, and the batches held out to validate and to test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from bench import data, operators
from bench.accuracy.metrics import Metrics
from bench.data import ImageSet, MeasuredSet, Noise
from bench.errors import UsageError
from bench.records import DataSets

if TYPE_CHECKING:
    from bench.config import AccuracySection, Task
    from bench.operators.base import Operator

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and their measurements [B, *measurement_shape]."""


@dataclass(frozen=True)
class Splits:
    """Everything that a training sees, on the CPU.

    Attributes:
        train: pairs of an image and its measurement.
        validation: batches that steer choices.
        test: batches that decide nothing.
        metrics: how reconstructions are judged.
        volumes: the subject of each test image.
        described: how many images of how many subjects, for the record.
    """

    train: MeasuredSet
    validation: list[Batch]
    test: list[Batch]
    metrics: Metrics
    volumes: list[str]
    described: DataSets


def load(name: str, task: Task, options: AccuracySection) -> Splits:
    """The splits of the task called `name`.

    Raises:
        UsageError: the task has no images, or they cannot be read.
    """
    operator = operators.get(task.operator)(**task.options)
    noise = Noise(task.noise.sigma, task.noise.photons)
    of_splits: Iterable[Sequence[Any]] = zip(_images(name, task, operator.image_shape), strict=True)
    if task.measured_by:
        measuring = operators.get(task.operator)(**task.options | task.measured_by)
        finer = [(images, measuring) for images in _images(name, task, measuring.image_shape)]
        of_splits = zip(_images(name, task, operator.image_shape), finer, strict=True)
    own = task.measurements == "own"
    train, validation, test = (
        MeasuredSet(images, operator, noise, 0, (measured[0] if measured else None), own)
        for images, *measured in of_splits
    )
    images: ImageSet = train.images
    if task.metric != "image" and operator.image_shape[0] != 2:
        raise UsageError(
            f"metric {task.metric!r} of task {name} is for complex images of two channels, but its images have "
            f'{operator.image_shape[0]}: give "image"'
        )
    data_range = 2 * images.data_range if task.metric == "real" else images.data_range  # [-1, 1] of magnitude [0, 1]
    metrics = Metrics(data_range, task.metric, task.range, task.ssim)
    tested = spread(len(test), options.test_images)
    validated = spread(len(validation), options.validation_images)
    shown = _batches(test, tested, options.batch)
    _check_range(name, shown, metrics)
    return Splits(
        train=train,
        validation=_batches(validation, validated, options.batch),
        test=shown,
        metrics=metrics,
        volumes=[test.images.subjects[index] for index in tested],
        described=DataSets(
            name=images.name,
            train_images=len(train),
            train_subjects=images.effective_sample_size,
            validation_images=len(validated),
            test_images=len(tested),
            test_subjects=len({test.images.subjects[index] for index in tested}),
            data_range=metrics.data_range,
            metric=metrics.of,
            range=metrics.range,
            ssim=metrics.window,
            acceleration=_acceleration([test.operator_of(index) for index in tested]),
            measured_by=task.measured_by,
            measurements=task.measurements,
        ),
    )


def _acceleration(operators: Sequence[Operator]) -> float | None:
    """How many times fewer columns were measured of all images together; None where there is no k-space."""
    each = {operator.acceleration for operator in operators}
    if len(each) == 1:
        return each.pop()
    return len(operators) / sum(1 / (operator.acceleration or 1.0) for operator in operators)


def _check_range(name: str, batches: list[Batch], metrics: Metrics) -> None:
    """See that no test image spans more than the range that PSNR is taken relative to.

    Raises:
        UsageError: one does, by more than rounding.
    """
    if metrics.range != "fixed":
        return
    widest = max(float(metrics.extent(image).max()) for image, _ in batches)
    if widest > metrics.data_range * (1 + 1e-3):
        raise UsageError(
            f"images of task {name} span {widest:.4g}, more than the data range {metrics.data_range:g} of their set: "
            'give range = "image" in the task'
        )


def spread(available: int, wanted: int) -> list[int]:
    """Indices of at most `wanted` of so many images, evenly over all of them and so over their subjects."""
    count = min(available, wanted)
    return [number * available // count for number in range(count)]


def check(name: str, task: Task) -> None:
    """See that the images of the task called `name` are there.

    Raises:
        UsageError: the task has no images, or they cannot be read.
    """
    _images(name, task, operators.get(task.operator).image_shape_of(**task.options))


def _images(name: str, task: Task, image_shape: tuple[int, ...]) -> list[ImageSet]:
    """The images to train on, to validate and to test."""
    if task.data is None:
        raise UsageError(f"task {name} has no images to train on: give data = ... in [task.{name}] (`bench data list`)")
    channels, height, width = image_shape
    shape = (channels, height, width)
    return [data.load(task.data, split, shape, **task.data_options) for split in data.SPLITS]


def _batches(pairs: MeasuredSet, indices: list[int], size: int) -> list[Batch]:
    return [batch_of(pairs, indices[start : start + size]) for start in range(0, len(indices), size)]


def merged(batches: list[Batch], size: int) -> list[Batch]:
    """The same images in batches of `size`, but for the last."""
    image, measurement = (torch.cat(part) for part in zip(*batches, strict=True))
    return list(zip(image.split(size), measurement.split(size), strict=True))


def batch_of(pairs: MeasuredSet, indices: list[int]) -> Batch:
    """The pairs at `indices` as one batch."""
    image, measurement = default_collate([pairs[index] for index in indices])
    return image, measurement
