"""Table 3 with strategies as rows: what each gives, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import pandas as pd

from bench.records import Bound, Record
from bench.report.tables import table3
from bench.strategies.naming import PLAIN, split
from bench.units import MiB

ROUNDING = 1e-9
"""Relative differences of gradients in float64 up to here are those of rounding."""


def tidy(records: Iterable[Record], cards: Sequence[str], workspace: Bound = "high") -> pd.DataFrame:
    """Table 3's tidy table of the cells that are trained with strategies, and of the same cells without.

    Beside its columns `strategy`, `gradient_bias` (relative, measured in float64) and `relative_seconds`, those of a
    training step per image relative to the plain cell's; both are known where the stage timing ran.
    """
    records = list(records)
    with_strategy = {(record.task, split(record.architecture)[0]) for record in records if _strategy(record) != PLAIN}
    chosen = [record for record in records if (record.task, split(record.architecture)[0]) in with_strategy]
    frame = table3.tidy([record for record in chosen if record.stage == "memory"], cards, workspace)
    if frame.empty:
        return frame
    timings = {(record.task, record.architecture): record for record in chosen if record.timing}
    names = list(zip(frame["task"], frame["architecture"], strict=True))
    frame.insert(2, "strategy", [split(name)[1] for _, name in names])
    frame["architecture"] = [split(name)[0] for _, name in names]
    frame["gradient_bias"] = [_bias(timings.get(name)) for name in names]
    frame["relative_seconds"] = [
        _relative(timings.get(name), timings.get((name[0], split(name[1])[0]))) for name in names
    ]
    return frame


def _strategy(record: Record) -> str:
    return split(record.architecture)[1]


def _bias(record: Record | None) -> float | None:
    return record.timing.gradient_bias if record and record.timing else None


def _relative(record: Record | None, plain: Record | None) -> float | None:
    if not (record and plain and record.timing and plain.timing):
        return None
    one, other = (median(each.training_step_seconds) / each.batch for each in (record.timing, plain.timing))
    return one / other


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table as text: a row per strategy, a column per card."""
    rows = []
    for (task, architecture, strategy), of_cell in frame.groupby(["task", "architecture", "strategy"], sort=False):
        cells: list[Any] = list(of_cell.itertuples())
        first = cells[0]
        rows.append(
            {"task": task, "architecture": architecture, "strategy": strategy}
            | {cell.card: "failed" if cell.status == "failed" else _batch(cell) for cell in cells}
            | {
                "MiB per image": "" if first.status == "failed" else f"{first.peak_bytes_per_image / MiB:,.1f}",
                "gradient": _gradient(first),
                "time": "" if pd.isna(first.relative_seconds) else f"{first.relative_seconds:.2f}",
            }
        )
    table = pd.DataFrame(rows).fillna("")
    table["architecture"] = table["architecture"].where(~table.duplicated(["task", "architecture"]), "")
    table["task"] = table["task"].where(~table["task"].duplicated(), "")
    return table


def _batch(cell: Any) -> str:
    if pd.isna(cell.largest_batch):
        return table3.UNKNOWN
    return str(cell.largest_batch) if cell.largest_batch else table3.NONE_FITS


def _gradient(cell: Any) -> str:
    if cell.strategy == PLAIN:
        return "exact"
    if pd.isna(cell.gradient_bias):
        return ""
    return "exact" if cell.gradient_bias < ROUNDING else f"{cell.gradient_bias:.2g} off"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, in words."""
    return (
        "Largest training batch on each card (-: batch 1 does not fit). "
        f"Engine: {', '.join(frame['engine'].dropna().unique())}; workspaces of kernels: "
        f"{', '.join(frame['workspace'].dropna().unique())}; torch {', '.join(frame['torch'].unique())}. "
        "Gradient: relative difference from the exact one, in float64 (bf16: float32), where a step was timed; "
        '"exact" is below 1e-9. Time: seconds of a training step per image, relative to plain.'
    )
