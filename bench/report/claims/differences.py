"""When two numbers, or two methods on the same images, are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Answer = Literal["holds", "not resolved", "reversed", "not measured"]

CONFIDENCE = 0.95
LESS_TO_COUNT = 1.05
"""Seconds, bytes and steps that differ by a smaller factor are not told apart."""


class Difference(NamedTuple):
    """The mean of paired differences, and half the width of its interval."""

    mean: float
    half_width: float

    @property
    def answer(self) -> Answer:
        """Whether the first of the pair is the larger one."""
        if self.mean - self.half_width > 0:
            return "holds"
        return "reversed" if self.mean + self.half_width < 0 else "not resolved"

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.half_width:.2f}"


def paired(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """First less second, image by image, each image's numbers being means over seeds; with Student's interval.

    Args:
        first: numbers of each seed's training, image by image: shape [seeds, images].
        second: the same images', of the other method; it may have other seeds.
    """
    differences = np.mean(first, axis=0) - np.mean(second, axis=0)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return Difference(float(differences.mean()), float("inf"))
    width = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return Difference(float(differences.mean()), float(width))


def smaller(first: float, second: float) -> Answer:
    """Whether the first number is smaller, where they can be told apart."""
    if max(first, second) <= LESS_TO_COUNT * min(first, second):
        return "not resolved"
    return "holds" if first < second else "reversed"


def three_digits(number: float) -> str:
    """Three digits, and all those before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
