"""Names written beside what they name, clear of each other and of the points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

_SIZE = 8  # points
_LETTER = 0.6 * _SIZE  # its width
_ROW = 1.35 * _SIZE
_POINT = 5.0  # half the side of the square that a point takes
_GAP = 7.0  # from the point's middle
_SIDES = [("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top")]
_SIDES += [("left", "bottom"), ("left", "top"), ("right", "bottom"), ("right", "top")]
_SHIFT = {"left": 1, "bottom": 1, "center": 0, "right": -1, "top": -1}


class Named(NamedTuple):
    """A point of the data, its name, and the name's colour."""

    x: float
    y: float
    name: str
    color: str


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, other: _Box) -> float:
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(other)


def name_points(axes: Any, points: Sequence[Named], steps: Sequence[tuple[float, float]] = ()) -> None:
    """Write each point's name on the side of it where it covers least. To be called when limits and scales are set.

    Args:
        axes: the panel.
        points: what is named.
        steps: corners of a line of steps, along and then up, that names keep clear of too.
    """
    places = _in_points(axes, [(point.x, point.y) for point in points])
    taken = [_Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in places]
    for (left, level), (right, next_level) in pairwise(_in_points(axes, steps)):
        taken.append(_Box(left, level - 1, right, level + 1))
        taken.append(_Box(right - 1, min(level, next_level), right + 1, max(level, next_level)))
    panel = _Box(*(np.ravel(axes.bbox.get_points()) * 72 / axes.figure.dpi))
    for point, (x, y) in zip(points, places, strict=True):
        boxes = [_text_box(x, y, point.name, *side) for side in _SIDES]
        costs = [sum(map(box.overlap, taken)) + 10 * box.outside(panel) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        across, along = _SIDES[best]
        offset = (_GAP * _SHIFT[across], _GAP * _SHIFT[along])
        _write(axes, point, offset, across, along)


def name_ends(axes: Any, ends: Sequence[Named]) -> None:
    """Write names above the panel, each over the end of its line, in as many rows as keep them apart."""
    rows: list[float] = []  # where each row is taken up to
    lowest = max((end.y for end in ends), default=0.0)
    places = _in_points(axes, [(end.x, lowest) for end in ends])
    right = axes.bbox.x1 * 72 / axes.figure.dpi
    for place in sorted(range(len(ends)), key=lambda place: places[place][0]):
        end, (x, _) = ends[place], places[place]
        width = _LETTER * len(end.name)
        shift = min(0.0, right + 3 * _LETTER - (x + width))
        row = next((number for number, taken in enumerate(rows) if taken < x + shift), len(rows))
        rows[row : row + 1] = [x + shift + width + _LETTER]
        _write(axes, end._replace(y=lowest), (shift, 6 + row * _ROW), "left", "bottom")
    axes.set_title(axes.get_title("left"), pad=10 + len(rows) * _ROW)


def _in_points(axes: Any, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places of the data in points of the paper."""
    shown = axes.transData.transform(np.array(places).reshape(-1, 2)) * 72 / axes.figure.dpi
    return [(float(x), float(y)) for x, y in shown]


def _text_box(x: float, y: float, text: str, across: str, along: str) -> _Box:
    width, height = _LETTER * len(text), _ROW
    left = x + _GAP * _SHIFT[across] - {"left": 0.0, "center": width / 2, "right": width}[across]
    bottom = y + _GAP * _SHIFT[along] - {"bottom": 0.0, "center": height / 2, "top": height}[along]
    return _Box(left, bottom, left + width, bottom + height)


def _write(axes: Any, point: Named, offset: tuple[float, float], across: str, along: str) -> None:
    axes.annotate(
        point.name,
        (point.x, point.y),
        offset,
        textcoords="offset points",
        ha=across,
        va=along,
        fontsize=_SIZE,
        color=point.color,
        annotation_clip=False,
    )
