"""Pictures of what one gets against what it costs: each method a point, and the Pareto front marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bench.records import Record
from bench.report.methods import CLASSICAL, beside, by_task, conditions, label, newest
from bench.report.plots.style import finish, log_scale, looks, plot_to_infinity, task_grid
from bench.units import MiB

_CLASSICAL_LINES = dict(zip(CLASSICAL, (":", (0, (1, 3)), "-.", "--"), strict=True))
_FRONT: dict[str, Any] = {
    **{"color": "#8c8c8c", "linewidth": 1, "linestyle": "-", "drawstyle": "steps-post"},
    **{"marker": "o", "markersize": 13, "markerfacecolor": "none"},
}

Quantity = Callable[[Record], float | None]


class Point(NamedTuple):
    """One method: what it costs, and what one gets for it."""

    method: str
    cost: float
    result: float


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
    figure = _draw(accuracy, lambda record: _mebibytes(beside(record, timing)), _psnr_db, more_is_better=True)
    return _labelled(figure, "peak memory per image, MiB", f"test PSNR, dB\n({conditions(accuracy)})")


def psnr_against_time(records: Sequence[Record]) -> Figure | None:
    """PSNR of the test images against the time that an image takes in a training step."""
    accuracy, timing = newest(records, "accuracy"), newest(records, "timing")
    figure = _draw(accuracy, lambda record: _seconds(beside(record, timing)), _psnr_db, more_is_better=True)
    return _labelled(
        figure, f"training step per image, s\n({conditions(timing)})", f"test PSNR, dB\n({conditions(accuracy)})"
    )


def time_against_memory(records: Sequence[Record]) -> Figure | None:
    """The time that an image takes in a training step against the memory that it adds to it."""
    timing = newest(records, "timing")
    figure = _draw(timing, _mebibytes, _seconds, more_is_better=False)
    return _labelled(figure, "peak memory per image, MiB", f"training step per image, s\n({conditions(timing)})")


def _mebibytes(record: Record | None) -> float | None:
    """Of the network that is timed: a point is one network's, or there is none."""
    peak_bytes = record.timing.peak_bytes_per_image if record and record.timing else None
    return peak_bytes["high"] / MiB if peak_bytes else None


def _seconds(record: Record | None) -> float | None:
    return median(record.timing.training_step_seconds) / record.timing.batch if record and record.timing else None


def _psnr_db(record: Record) -> float | None:
    trainings = record.accuracy.trainings if record.accuracy else []
    means = [fmean(training.psnr_db) for training in trainings if training.status == "ok"]
    return fmean(means) if means else None


def _draw(records: Sequence[Record], cost: Quantity, result: Quantity, *, more_is_better: bool) -> Figure | None:
    """A panel per task that has points; None where there are none. Classical methods are lines: they train nothing."""
    points: dict[str, list[Point]] = {}
    learned = [record for record in records if record.architecture not in CLASSICAL]
    for record in learned:
        costs, gives = cost(record), result(record)
        if costs is not None and gives is not None:
            points.setdefault(record.task, []).append(Point(label(record, learned), costs, gives))
    if not points:
        return None
    figure, axes_of = task_grid(list(points), 3.6)
    look = looks(label(record, learned) for record in learned)
    for task, of_task in points.items():
        axes = axes_of[task]
        front = [point for point in pareto(of_task, more_is_better=more_is_better) if point.result != math.inf]
        axes.plot([point.cost for point in front], [point.result for point in front], **_FRONT, label="Pareto front")
        for point in of_task:
            plot_to_infinity(
                axes, [point.cost], [point.result], look[point.method].point, markersize=7, label=point.method
            )
        for record in by_task(records)[task]:
            level = result(record)
            if level is not None and (linestyle := _CLASSICAL_LINES.get(record.architecture)):
                line: dict[str, Any] = {"color": "#8c8c8c", "linewidth": 1.2, "linestyle": linestyle}
                if level == math.inf:
                    axes.plot([0, 1], [1, 1], **line, label=f"{record.architecture} (inf)", transform=axes.transAxes)
                else:
                    axes.axhline(level, **line, label=record.architecture)
        axes.margins(x=0.15, y=0.12)
        log_scale(axes, "x" if more_is_better else "both")
    return figure


def _labelled(figure: Figure | None, cost: str, result: str) -> Figure | None:
    if figure is None:
        return None
    for axes in figure.axes:
        axes.set(xlabel=cost, ylabel=result)
    finish(figure)
    return figure
