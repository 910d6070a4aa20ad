"""What the virtual card answered for the suite's cells, kept: one file per release of PyTorch.

They hold the recording where there is no CUDA build: tests/golden/virtual, made by `make virtual`.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Golden(BaseModel):
    """Whole steps at one batch: their peaks, and every allocation (bytes) and free (-k: of the k-th last)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    values_read: int
    lower_bounds: tuple[str, ...]
    events: tuple[int, ...]


class Goldens(BaseModel):
    """All cells on one card; the names are "architecture on task"."""

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
