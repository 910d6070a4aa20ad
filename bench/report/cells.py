"""Cells of arranged tables: text on one line, the number it begins with, and which of several is the best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

Better = Literal["most", "least"]

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(\.\d+)?(e[-+]?\d+)?|inf)(?!\w|[.:+-]\w)")  # no part of a version, date or name


_LINE = 40  # characters
_BREAKS = re.compile(r"\s+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def one_line(text: object) -> str:
    """Text without line breaks and control characters, for which no format of a table has a place."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _BREAKS.sub(" ", str(text)))


def split_number(text: str) -> tuple[str, str]:
    """The number that a cell begins with, and the rest: "7" and " / 6 / 1"; "" and "8GB"."""
    match = _NUMBER.match(text)
    return (match[0], text[match.end() :]) if match else ("", text)


def leading_number(text: str) -> float | None:
    """The value of that number: 7 of "7 / 6 / 1", 558580 of "558,580", None of "failed", "8GB" and "2.13.0"."""
    number, _ = split_number(text)
    return float(number.replace(",", "")) if number else None


def is_numeric(column: Iterable[str]) -> bool:
    """Whether a column of text has numbers in it, beside what is empty or missing."""
    return any(split_number(text)[0] for text in column)


def is_prose(column: Iterable[str]) -> bool:
    """Whether a column of text has something so long in it that it takes several lines, and no numbers."""
    texts = list(column)
    return not is_numeric(texts) and max(map(len, texts), default=0) > _LINE


def best(texts: Sequence[str], better: Better) -> list[bool]:
    """True for the cells with the best leading number; for none where there is nothing to choose between."""
    values = [leading_number(text) for text in texts]
    known = {value for value in values if value is not None}
    if len(known) < 2:
        return [False] * len(texts)
    winner = max(known) if better == "most" else min(known)
    return [value == winner for value in values]
