"""What the virtual card answered, kept: for the suite's cells and other steps, one file of each kind per release.

They hold the recording where there is no CUDA build: tests/golden/virtual, made by `make virtual`.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.virtual.device import VirtualMeasurement


class Golden(BaseModel):
    """Whole steps at one batch: their peaks, and every allocation (bytes) and free (-k: of the k-th last).

    `setup` of the events come before the first step. Values read and selections are those of the last step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    values_read: int
    selections: int
    lower_bounds: tuple[str, ...]
    setup: int
    events: tuple[int, ...]

    @classmethod
    def of(cls, batch: int, seen: VirtualMeasurement) -> Golden:
        """What is kept of a trial."""
        names = cls.model_fields.keys() - {"batch"}
        return cls(batch=batch, **{name: getattr(seen, name) for name in names})


class Goldens(BaseModel):
    """All steps of a kind on one card; a cell's name is "architecture on task"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    torch: str
    cudnn: str
    card: str
    steps: int
    cells: dict[str, Golden]


def write(goldens: Goldens, path: Path) -> None:
    """Write a file; the same answers give the same bytes."""
    text = json.dumps(goldens.model_dump(mode="json"), separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9))


def read(path: Path) -> Goldens:
    """Read a file."""
    return Goldens.model_validate_json(lzma.decompress(path.read_bytes()))


def same(one: Goldens, other: Goldens) -> bool:
    """Whether both tell the same. Frees that follow each other may have any order, as when autocast ends."""
    return _in_order(one) == _in_order(other)


def same_step(one: Golden | None, other: Golden) -> bool:
    """Whether both tell the same of one step, in the same sense."""
    return one is not None and _step_in_order(one) == _step_in_order(other)


def _in_order(goldens: Goldens) -> Goldens:
    return goldens.model_copy(
        update={"cells": {name: _step_in_order(golden) for name, golden in goldens.cells.items()}}
    )


def _step_in_order(golden: Golden) -> Golden:
    return golden.model_copy(update={"events": _frees_in_order(golden.events)})


def _frees_in_order(events: Sequence[int]) -> tuple[int, ...]:
    """The latest allocation first, of frees that no allocation parts."""
    ordered: list[int] = []
    for is_free, group in groupby(events, lambda event: event < 0):
        run = list(group)
        ordered += sorted(run, reverse=True) if is_free else run
    return tuple(ordered)
