"""Sets of results over time: a table, and the newest set in the formats of services that keep histories."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import pandas as pd

from bench.regression.measured import Measured, Name, Quantity

SHOWN: dict[Name, tuple[str, str]] = {
    "largest_batch": ("images", "most"),
    "peak_bytes_per_image": ("bytes", "least"),
    "training_step_seconds": ("s", "least"),
    "evaluation_seconds": ("s", "least"),
    "psnr_db": ("dB", "most"),
}
"""The numbers of a history, with their units, and whether more or less is better."""

Key = tuple[str, str, Name, str]
"""Task, architecture, number, and the card where there is one."""


@dataclass(frozen=True)
class Point:
    """A number, and its bounds where it is not known exactly."""

    value: float
    lower: float | None = None
    upper: float | None = None


def points(cells: Iterable[Measured]) -> dict[Key, Point]:
    """The numbers of a set.

    A memory's number is the exact one, or else that of the bound `high`. Seconds are medians, PSNR is a mean.
    """
    found: dict[Key, dict[str, float]] = {}
    for cell in cells:
        for quantity in cell.quantities:
            if quantity.name in SHOWN:
                *card, bound = quantity.of.rsplit(", ", 1)
                key = (cell.task, cell.architecture, quantity.name, card[0] if card else "")
                found.setdefault(key, {})[bound] = _one_number(quantity)
    return {key: _point(bounds) for key, bounds in found.items()}


def _one_number(quantity: Quantity) -> float:
    if not isinstance(quantity.value, tuple):
        return quantity.value
    return fmean(quantity.value) if quantity.name == "psnr_db" else median(quantity.value)


def _point(bounds: Mapping[str, float]) -> Point:
    for name in ("exact", ""):
        if name in bounds:
            return Point(bounds[name])
    value = bounds.get("high", next(iter(bounds.values())))
    return Point(value, min(bounds.values()), max(bounds.values())) if len(bounds) > 1 else Point(value)


def table(sets: Mapping[str, Iterable[Measured]]) -> pd.DataFrame:
    """One row per number, one column per set, as text; of a set that lacks a number, nothing."""
    found = {label: points(cells) for label, cells in sets.items()}
    keys = dict.fromkeys(key for of_set in found.values() for key in of_set)
    rows = [
        {"cell": f"{architecture} on {task}", "number": called(name, card)}
        | {label: _text(of_set.get((task, architecture, name, card)), name) for label, of_set in found.items()}
        for task, architecture, name, card in keys
    ]
    shown = pd.DataFrame(rows, columns=["cell", "number", *sets])
    shown["cell"] = shown["cell"].where(~shown["cell"].duplicated(), "")
    return shown


def bencher(cells: Iterable[Measured]) -> str:
    """A set in Bencher Metric Format: benchmark, measure, and value with lower and upper value.

    The format is described at https://bencher.dev/docs/reference/bencher-metric-format/.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (task, architecture, name, card), point in points(cells).items():
        measure = {"value": point.value}
        if point.lower is not None and point.upper is not None:
            measure |= {"lower_value": point.lower, "upper_value": point.upper}
        benchmark = " / ".join(filter(None, (task, architecture, card)))
        found.setdefault(benchmark, {})[name.replace("_", "-")] = measure
    return json.dumps(found, indent=2)


def action_benchmark(cells: Iterable[Measured], better: str) -> str:
    """Those numbers of a set of which the `better` is "most" or "least", as github-action-benchmark reads them.

    Its tools are customBiggerIsBetter and customSmallerIsBetter: https://github.com/benchmark-action/github-action-benchmark.
    """
    entries: list[dict[str, Any]] = []
    for (task, architecture, name, card), point in points(cells).items():
        unit, which = SHOWN[name]
        if which == better:
            entry = {"name": f"{architecture} on {task}: {called(name, card)}", "unit": unit, "value": point.value}
            if point.lower is not None and point.upper is not None:
                entry["range"] = f"{point.lower:g} to {point.upper:g}"
            entries.append(entry)
    return json.dumps(entries, indent=2)


def oldest_first(table: pd.DataFrame) -> Sequence[str]:
    """The columns of sets that a narrow terminal may leave out: all but the newest, the oldest first."""
    return [str(name) for name in table.columns[2:-1]]


def called(name: Name, card: str) -> str:
    """A number's name as people write it, and its card."""
    return name.replace("_", " ") + (f" ({card})" if card else "")


def _text(point: Point | None, name: Name) -> str:
    if point is None:
        return ""
    return f"{point.value:,.0f}" if name in ("largest_batch", "peak_bytes_per_image") else f"{point.value:.4g}"
