"""What the peak of a training step is made of, method beside method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.module_names import merged
from bench.records import CATEGORIES, Record
from bench.units import MiB


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per cell, category, module and operation; "MiB" of all rows of a cell are what is reserved."""
    rows: list[dict[str, Any]] = []
    for record in records:
        if record.stage == "profile":
            rows += _rows(record)
    return pd.DataFrame(rows)


def _rows(record: Record) -> list[dict[str, Any]]:
    cell: dict[str, Any] = {
        "task": record.task,
        "architecture": record.architecture,
        "status": record.status,
        "reason": record.reason,
        "torch": record.provenance.torch,
    }
    profile = record.profile
    if profile is None:
        return [cell]
    cell |= {
        "card": profile.card,
        "batch": profile.composition.batch,
        "fits": profile.fits,
        "workspace": profile.workspace,
        "reserved_bytes": profile.composition.peak_reserved_bytes,
    }
    return [
        cell | {"category": category, "group": group, "size_bytes": size}
        for category in CATEGORIES
        for group, size in profile.composition.size_bytes.get(category, {}).items()
    ]


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table as text: tasks and categories down, architectures across; MiB and their share of what is reserved.

    The last row of a task names the module and operation that hold most.
    """
    rows: list[dict[str, str]] = []
    for task, of_task in frame.groupby("task", sort=False):
        cells: dict[str, pd.DataFrame] = {str(name): cell for name, cell in of_task.groupby("architecture", sort=False)}
        done = {name: cell for name, cell in cells.items() if cell["status"].iloc[0] == "ok"}
        failed = dict.fromkeys(cells.keys() - done.keys(), "failed")
        cards = "".join(f", {card}" for card in dict.fromkeys(cell["card"].iloc[0] for cell in done.values()))
        lines = {f"largest batch{cards}": {name: _batch(cell) for name, cell in done.items()}}
        for category in CATEGORIES:
            line = {name: _share(cell, category) for name, cell in done.items()}
            if any(line.values()):
                lines[f"{category}, MiB"] = line
        lines["reserved, MiB"] = {name: f"{_reserved(cell) / MiB:,.1f}" for name, cell in done.items()}
        lines["most of it"] = {name: _largest(cell) for name, cell in done.items()}
        rows += [{"task": str(task), "": name} | line | failed for name, line in lines.items()]
    table = pd.DataFrame(rows, columns=["task", "", *frame["architecture"].unique()]).fillna("")
    table["task"] = table["task"].where(~table["task"].duplicated(), "")
    return table


def _batch(cell: pd.DataFrame) -> str:
    return f"{cell['batch'].iloc[0]:.0f}" if cell["fits"].iloc[0] else "-"


def _reserved(cell: pd.DataFrame) -> int:
    return int(cell["reserved_bytes"].iloc[0])


def _share(cell: pd.DataFrame, category: str) -> str:
    size = int(cell.loc[cell["category"] == category, "size_bytes"].sum())
    return f"{size / MiB:,.1f} ({size / _reserved(cell):.1%})" if size else ""


def _largest(cell: pd.DataFrame) -> str:
    shown = merged(cell["group"])
    sizes: Counter[tuple[str, str]] = Counter()
    for category, group, size in cell[["category", "group", "size_bytes"]].itertuples(index=False):
        sizes[category, shown[group]] += size
    (((_, group), size),) = sizes.most_common(1)
    return f"{size / _reserved(cell):.0%} {group}"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, in words."""
    done = frame[frame["status"] == "ok"]
    if done.empty:
        return "No cell was profiled."
    inside = {"exact": "as cuDNN takes it", "high": "the most that kernels can take", "low": "none"}
    workspace = " or ".join(inside[bound] for bound in done["workspace"].unique())
    return (
        "What the peak of a training step is made of at the largest batch that fits (-: batch 1 does not; then what is "
        "held when memory runs out), and its share of what is reserved; the last row: the module and operation that "
        f"hold most. Simulated; workspace: {workspace}; torch {', '.join(done['torch'].unique())}."
    )
