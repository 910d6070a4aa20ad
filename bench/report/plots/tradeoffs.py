"""Pictures of what one gets against what it costs: each method a point, and the Pareto front marked.

The arms of a point show how far its numbers spread: bytes between both bounds of what kernels take inside, seconds
between their quartiles, PSNR between the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from bench.records import Record
from bench.report.methods import CLASSICAL, beside, by_task, conditions, label, newest
from bench.report.plots.labels import Named, name_points
from bench.report.plots.palette import NOTE
from bench.report.plots.style import finish, log_scale, looks, plot_to_infinity, task_grid
from bench.units import MiB

_CLASSICAL_LINES = dict(zip(CLASSICAL, (":", (0, (1, 3)), "-.", "--"), strict=True))
_FRONT: dict[str, Any] = {
    **{"color": NOTE[0], "linewidth": 1, "linestyle": "-", "drawstyle": "steps-post"},
    **{"marker": "o", "markersize": 13, "markerfacecolor": "none"},
}


class Span(NamedTuple):
    """A number, and from where to where its repeats spread."""

    value: float
    low: float
    high: float


class Point(NamedTuple):
    """One method: what it costs, and what one gets for it."""

    method: str
    cost: float
    result: float


class Axis(NamedTuple):
    """What an axis says, and the number of a record that it shows."""

    words: str
    of: Callable[[Record], Span | None]


def pareto(points: Sequence[Point], *, more_is_better: bool) -> list[Point]:
    """The points that no other one betters in one quantity without losing in the other, the cheapest first."""
    sign = -1 if more_is_better else 1
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, sign * point.result)):
        if not front or sign * point.result < sign * front[-1].result:
            front.append(point)
    return front


def psnr_against_memory(records: Sequence[Record]) -> Figure | None:
    """PSNR of the test images against the memory that an image adds to a training step."""
    accuracy, timing = newest(records, "accuracy"), newest(records, "timing")
    cost = Axis("peak memory per image, MiB", lambda record: _mebibytes(beside(record, timing)))
    return _draw(accuracy, cost, Axis(f"test PSNR, dB\n({conditions(accuracy)})", _psnr_db), more_is_better=True)


def psnr_against_time(records: Sequence[Record]) -> Figure | None:
    """PSNR of the test images against the time that an image takes in a training step."""
    accuracy, timing = newest(records, "accuracy"), newest(records, "timing")
    words = f"training step per image, s\n({conditions(timing)})"
    cost = Axis(words, lambda record: _seconds(beside(record, timing)))
    return _draw(accuracy, cost, Axis(f"test PSNR, dB\n({conditions(accuracy)})", _psnr_db), more_is_better=True)


def time_against_memory(records: Sequence[Record]) -> Figure | None:
    """The time that an image takes in a training step against the memory that it adds to it."""
    timing = newest(records, "timing")
    cost = Axis("peak memory per image, MiB", _mebibytes)
    result = Axis(f"training step per image, s\n({conditions(timing)})", _seconds)
    return _draw(timing, cost, result, more_is_better=False)


def _mebibytes(record: Record | None) -> Span | None:
    """Of the network that is timed: a point is one network's, or there is none."""
    peak_bytes = record.timing.peak_bytes_per_image if record and record.timing else None
    if peak_bytes is None:
        return None
    low, high = (peak_bytes[bound] / MiB for bound in ("low", "high"))
    return Span(high, low, high)


def _seconds(record: Record | None) -> Span | None:
    if record is None or record.timing is None:
        return None
    low, middle, high = np.quantile(record.timing.training_step_seconds, (0.25, 0.5, 0.75)) / record.timing.batch
    return Span(float(middle), float(low), float(high))


def _psnr_db(record: Record) -> Span | None:
    trainings = record.accuracy.trainings if record.accuracy else []
    means = [fmean(training.psnr_db) for training in trainings if training.status == "ok"]
    return Span(fmean(means), min(means), max(means)) if means else None


def _draw(records: Sequence[Record], cost: Axis, result: Axis, *, more_is_better: bool) -> Figure | None:
    """A panel per task that has points; None where there are none. Classical methods are lines: they train nothing."""
    learned = [record for record in records if record.architecture not in CLASSICAL]
    spans: dict[str, dict[str, tuple[Span, Span]]] = {}
    for record in learned:
        costs, gives = cost.of(record), result.of(record)
        if costs is not None and gives is not None:
            spans.setdefault(record.task, {})[label(record, learned)] = (costs, gives)
    if not spans:
        return None
    figure, axes_of = task_grid(list(spans), 3.6)
    look = looks(label(record, learned) for record in learned)
    named = []
    for task, of_task in spans.items():
        axes = axes_of[task]
        points = [Point(method, costs.value, gives.value) for method, (costs, gives) in of_task.items()]
        front = [point for point in pareto(points, more_is_better=more_is_better) if point.result != math.inf]
        axes.plot([point.cost for point in front], [point.result for point in front], **_FRONT, label="Pareto front")
        for point in points:
            _draw_spread(axes, *of_task[point.method], look[point.method].color)
            said = f"{point.method} on {task}: {point.result:.4g} at {point.cost:.4g}"
            plot_to_infinity(axes, [point.cost], [point.result], look[point.method].point, said, markersize=7)
        for record in by_task(records)[task]:
            level = result.of(record)
            if level is not None and (linestyle := _CLASSICAL_LINES.get(record.architecture)):
                line: dict[str, Any] = {"color": NOTE[0], "linewidth": 1.2, "linestyle": linestyle}
                if level.value == math.inf:
                    axes.plot([0, 1], [1, 1], **line, label=f"{record.architecture} (inf)", transform=axes.transAxes)
                else:
                    axes.axhline(level.value, **line, label=record.architecture)
        axes.margins(x=0.2, y=0.15)
        log_scale(axes, "x" if more_is_better else "both")
        axes.set(xlabel=cost.words, ylabel=result.words)
        finite = [point for point in points if point.result != math.inf]
        names = [Named(at.cost, at.result, at.method, look[at.method].color) for at in finite]
        named.append((axes, names, [(point.cost, point.result) for point in front]))
    figure.tight_layout()
    for each in named:
        name_points(*each)
    finish(figure)
    return figure


def _draw_spread(axes: Any, cost: Span, result: Span, color: str) -> None:
    """A cross whose arms are as long as the spread of either number."""
    if math.inf in (*cost, *result):
        return
    errors = [[[span.value - span.low], [span.high - span.value]] for span in (cost, result)]
    axes.errorbar(cost.value, result.value, errors[1], errors[0], color=color, elinewidth=1.2, marker="none")
