"""A step's memory over time as a picture: stacked bands, and the card's usable memory above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.units import GiB, MiB

SUFFIXES = (".png", ".svg", ".pdf")

Ints = npt.NDArray[np.int64]

_COLUMNS = 1500  # more points than that no picture shows
_LEAST_SPAN = 0.04  # of the width, that a phase must take to be named

# Neighbours differ in lightness, so that bands can be told apart in grey and by the colour-blind.
_COLORS = (
    *("#16324f", "#8fb8de", "#5b2a6e", "#e3b5d6", "#6b4200"),
    *("#f2c75c", "#c2410c", "#a9d8bd", "#3d3d3d", "#f0f0f0"),
)


class Span(NamedTuple):
    """A phase of the step, by its entries [start, stop)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Timeline:
    """What to draw.

    `bands` are bytes over the entries of a step, shape [entries] each, from the bottom up; the last one is reserved
    and not allocated. `moment` is the entry to point at, with `note`.
    """

    title: str
    bands: Mapping[str, Ints]
    spans: Sequence[Span]
    usable_bytes: int
    moment: int
    note: str


def draw(timeline: Timeline, path: Path) -> None:
    """Draw it into a PNG, SVG or PDF file, by the suffix of `path`.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    amounts = np.stack(list(timeline.bands.values()))
    shown = _highest_of_each_column(amounts[:-1].sum(axis=0))
    unit, unit_name = (GiB, "GiB") if timeline.usable_bytes >= GiB else (MiB, "MiB")
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_bands(axes, timeline, shown, amounts[:, shown] / unit)
    reserved = amounts[:, shown].sum(axis=0) / unit
    axes.step(shown, reserved, where="post", color="black", linewidth=1.2, label="reserved")
    usable = timeline.usable_bytes / unit
    axes.axhline(usable, color="#b00020", linestyle=(0, (6, 3)), linewidth=1.5, label="usable on the card")
    axes.set_ylim(0, usable * 1.14)
    axes.set_xlim(shown[0], max(shown[-1], shown[0] + 1))
    _name_phases(axes, timeline, usable)
    _point_at_moment(axes, timeline, amounts[:-1, timeline.moment].sum() / unit, usable)
    axes.set_xlabel("allocations and frees of the step, in order")
    axes.set_ylabel(unit_name)
    axes.set_title(timeline.title, loc="left", fontsize=12, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    legend.set_title("at the moment marked")
    legend.set_alignment("left")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _highest_of_each_column(allocated: Ints) -> Ints:
    """Entries to draw: of each of the picture's columns the one with the most allocated, so that no peak is lost."""
    edges = np.unique(np.linspace(0, len(allocated), min(_COLUMNS, len(allocated)) + 1).astype(np.int64))
    return np.array([start + allocated[start:stop].argmax() for start, stop in pairwise(edges)])


def _draw_bands(axes: Any, timeline: Timeline, shown: Ints, amounts: npt.NDArray[np.float64]) -> None:
    bottom = np.zeros(len(shown))
    for place, ((name, band), amount) in enumerate(zip(timeline.bands.items(), amounts, strict=True)):
        if not band.any():
            continue
        is_last = place == len(timeline.bands) - 1
        axes.fill_between(
            *(shown, bottom, bottom + amount),
            step="post",
            facecolor=_COLORS[place % len(_COLORS)],
            edgecolor="#9a9a9a" if is_last else "none",
            hatch="////" if is_last else None,
            linewidth=0,
            label=name,
        )
        bottom = bottom + amount


def _name_phases(axes: Any, timeline: Timeline, usable: float) -> None:
    entries = len(next(iter(timeline.bands.values())))
    for span in timeline.spans:
        if span.start:
            axes.axvline(span.start, ymax=usable * 1.10 / (usable * 1.14), color="#707070", linewidth=0.8)
        if span.stop - span.start >= _LEAST_SPAN * entries:
            middle = (span.start + span.stop) / 2
            axes.text(middle, usable * 1.10, span.name, ha="center", va="top", fontsize=10, color="#404040")


def _point_at_moment(axes: Any, timeline: Timeline, height: float, usable: float) -> None:
    entries = len(next(iter(timeline.bands.values())))
    to_the_left = timeline.moment > entries / 2
    axes.annotate(
        timeline.note,
        xy=(timeline.moment, height),
        xytext=(-18 if to_the_left else 18, 32 if height < 0.8 * usable else -40),
        textcoords="offset points",
        ha="right" if to_the_left else "left",
        va="center",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#404040", "linewidth": 0.8},
        arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1},
    )
