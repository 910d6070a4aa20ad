"""Numbers inside the text of arranged tables: what a cell is sorted by, and which cell is the best."""

from __future__ import annotations

import re
from typing import Literal

import pandas as pd

Better = Literal["most", "least"]

_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?(?!\w)")


def leading_number(text: str) -> float | None:
    """The number that a cell begins with: 7 of "7 / 6 / 1", 558580 of "558,580", None of "failed", "-" and "8GB"."""
    match = _NUMBER.match(text)
    return float(match[0].replace(",", "")) if match else None


def is_numeric(column: pd.Series[str]) -> bool:
    """Whether a column of text has numbers in it, beside what is empty or missing."""
    return any(leading_number(text) is not None for text in column)


def best(texts: pd.Series[str], better: Better) -> pd.Series[bool]:
    """True for the cells with the best leading number; for none where there is nothing to choose between."""
    values = texts.map(leading_number).astype(float)
    if values.nunique() < 2:
        return pd.Series(False, index=texts.index)
    return values == (values.max() if better == "most" else values.min())
