"""The paper's numbers, and how it counts batches."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@functools.cache
def paper_tables() -> dict[str, Any]:
    """The numbers printed in the paper."""
    return tomllib.loads((Path(__file__).parents[1] / "paper_tables.toml").read_text(encoding="utf-8"))


def even(batch: int) -> int:
    """The paper's convention: the largest even batch size, or 1."""
    return batch if batch < 2 else batch - batch % 2
