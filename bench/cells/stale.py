"""What a change of the code made stale: results of the cells that are asked for, but by earlier code."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.accuracy.checkpoint import Checkpoint

if TYPE_CHECKING:
    from bench.cells.cell import Cell
    from bench.records.store import RecordStore


def told(cells: Iterable[Cell], store: RecordStore) -> str | None:
    """How many records and trainings of `cells` only the code keeps from being used, as a sentence; None if none.

    Names of files say so: the first half of their keys is what is asked, the second half the code. Several of a cell,
    or of a training, count once, and those beside one of the code that runs do not count.
    """
    output = store.folder.parent
    records, checkpoints = _names(store.folder), _names(output / "checkpoints")
    stale_records = stale_checkpoints = 0
    for cell in cells:
        record = store.path(cell.task, cell.architecture, cell.stage, cell.key)
        if record.name in records:
            continue
        stale_records += _is_stale(record, cell, records)
        if cell.stage == "accuracy":
            of_seeds = [Checkpoint.of(cell, seed, output).path for seed in cell.accuracy.seeds]
            stale_checkpoints += sum(_is_stale(path, cell, checkpoints) for path in of_seeds)
    counts = {"record": stale_records, "checkpoint": stale_checkpoints}
    found = " and ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)
    are = "is" if sum(counts.values()) == 1 else "are"
    return f"{found} in {output} {are} of earlier code: measured again" if found else None


def _is_stale(path: Path, cell: Cell, names: frozenset[str]) -> bool:
    """Whether there is not this file of a cell, but one of the same name by other code."""
    before, _, after = path.name.rpartition(cell.source)
    return path.name not in names and any(name.startswith(before) and name.endswith(after) for name in names)


def _names(folder: Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
