"""The baseline: one JSON file of accepted numbers, kept in version control.

It holds no time and no commit: the same results give the same file, byte for byte, and git knows the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from bench.errors import NotComparableError, UsageError
from bench.files import read_json
from bench.records.store import read_records
from bench.regression.measured import Measured, all_reduced
from bench.units import MiB


class Baseline(BaseModel):
    """Cells with the composition of their memory; `format` is the version of this layout."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    cells: tuple[Measured, ...]


LARGEST_BYTES = 256 * MiB
FORMAT: int = Baseline.model_fields["format"].default


def read(path: Path) -> tuple[Measured, ...]:
    """The cells of a baseline.

    Raises:
        UsageError: no such file, not a baseline, one of another format, without cells, or with one cell twice.
    """
    try:
        content = read_json(path, LARGEST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"no baseline at {path}: `bench baseline update` makes it") from None
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path}: {error.strerror}") from error
    try:
        cells = Baseline.model_validate_json(content).cells
    except ValidationError as error:
        raise UsageError(f"{path} {_fault(content, error)}") from error
    if not cells:
        raise UsageError(f"the baseline {path} has no cells: `bench baseline update` makes it anew")
    times = Counter((*cell.name, json.dumps(cell.conditions, sort_keys=True)) for cell in cells)
    (most, number), *_ = times.most_common(1)
    if number > 1:
        raise UsageError(f"the baseline {path} has {most[1]} on {most[0]} {number} times: `bench baseline update`")
    return cells


def _fault(content: bytes, error: ValidationError) -> str:
    try:
        values: Any = from_json(content)
    except ValueError:
        values = None
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found != FORMAT:
        remedy = "update bench" if found > FORMAT else "`bench baseline update` makes it anew"
        return f"is a baseline of format {found}, and this bench reads format {FORMAT}: {remedy}"
    first = error.errors()[0]
    what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    return f"is no baseline ({what}): `bench baseline update` makes it anew"


def text(cells: Iterable[Measured]) -> str:
    """The file's text: cells in the order of their names, one number per line."""
    ordered = sorted(cells, key=lambda cell: (cell.name, json.dumps(cell.conditions, sort_keys=True)))
    stored = {"cells": {"__all__": {"composition": {"places"}}}}
    values = Baseline(cells=tuple(ordered)).model_dump(mode="json", exclude=stored)
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def read_set(path: Path) -> tuple[Measured, ...]:
    """The cells of a baseline's file or of a folder of records.

    Raises:
        UsageError: neither, or something in it cannot be read.
        NotComparableError: a folder without records that have numbers to compare.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}: give a folder of records, as `bench run` makes, or a baseline's file")
    if not path.is_dir():
        return read(path)
    cells = tuple(all_reduced(read_records(path)))
    if not cells:
        raise NotComparableError(f"nothing to compare in {path}: its records are of the stage profile alone")
    return cells
