"""What the virtual card answered, kept: for the suite's cells and other steps, one file of each kind per release.

They hold the recording where there is no CUDA build: tests/golden/virtual, made by `make virtual`. A file has a number
for each event: the bytes of an allocation, or -k for the free of the k-th last.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.memory.allocator.caching import FREE, Act
from bench.virtual.device import VirtualMeasurement


class Golden(BaseModel):
    """Whole steps at one batch: their peaks, and every allocation and free, as of VirtualMeasurement.

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
    events: tuple[tuple[int, int | Act], ...]

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
    told = goldens.model_dump(mode="json")
    for name, golden in goldens.cells.items():
        told["cells"][name]["events"] = list(_numbers(golden.events))
    text = json.dumps(told, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9))


def read(path: Path) -> Goldens:
    """Read a file."""
    told = json.loads(lzma.decompress(path.read_bytes()))
    for golden in told["cells"].values():
        golden["events"] = tuple(events_of(golden["events"]))
    return Goldens.model_validate(told)


def events_of(numbers: Iterable[int]) -> Iterator[tuple[int, int | Act]]:
    """The events of a file."""
    allocations = 0
    for number in numbers:
        if number < 0:
            yield allocations + number, FREE
        else:
            yield allocations, number
            allocations += 1


def _numbers(events: Iterable[tuple[int, int | Act]]) -> Iterator[int]:
    """What a file has of events."""
    allocations = 0
    for key, size in events:
        if isinstance(size, int):
            yield size
            allocations += 1
        else:
            yield key - allocations


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


def _frees_in_order(events: Iterable[tuple[int, int | Act]]) -> tuple[tuple[int, int | Act], ...]:
    """The latest allocation first, of frees that no allocation parts."""
    ordered: list[tuple[int, int | Act]] = []
    for is_free, group in groupby(events, lambda event: event[1] is FREE):
        run = list(group)
        ordered += sorted(run, key=itemgetter(0), reverse=True) if is_free else run
    return tuple(ordered)
