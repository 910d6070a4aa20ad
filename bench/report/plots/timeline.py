"""A step's memory over time: stacked bands by category, and the card's usable memory above them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import StepTimeline
from bench.report.plots.palette import FAINT, LIMIT, MEMORY, NOTE
from bench.report.plots.style import as_files, new_figure, style, tip
from bench.units import GiB, MiB, format_bytes

SUFFIXES = (".png", ".svg", ".pdf")
EVENTS = 1500  # more points than that no picture shows

COLORS = {category: light for category, (light, _) in MEMORY.items()}
"""Of categories, from the bottom up. Neighbours differ in lightness."""

RESERVED_ALONE = {"facecolor": FAINT[0], "hatch": "////", "edgecolor": COLORS["fragmentation"]}
"""How the last category looks, which is reserved and not allocated."""

_LEAST_SPAN = 0.04  # of the width, that a phase must take to be named


def draw(
    timeline: StepTimeline, title: str, note: str, size_bytes: Mapping[str, int], usable_bytes: int, path: Path
) -> None:
    """Draw one step into a PNG, SVG or PDF file, by the suffix of `path`.

    Args:
        timeline: what to draw.
        title: above it.
        note: said of the moment.
        size_bytes: by category at the moment, for the legend.
        usable_bytes: of the card.
        path: the file.

    Raises:
        OSError: it cannot be written.
    """
    unit, unit_name = (GiB, "GiB") if usable_bytes >= GiB else (MiB, "MiB")
    usable = usable_bytes / unit
    with style():
        figure = new_figure(11, 5.2)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        bands(axes, timeline, unit, {name: f"{name}, {format_bytes(size)}" for name, size in size_bytes.items()})
        axes.axhline(usable, color=LIMIT[0], linestyle=(0, (6, 3)), label="usable on the card")
        axes.set_ylim(0, usable * 1.14)
        axes.grid(visible=False)
        _name_phases(axes, timeline, usable)
        _point_at_moment(axes, timeline, f"{note}\n{timeline.operation} at {innermost(timeline.place)}", usable, unit)
        axes.set(xlabel="allocations and frees of the step, in order", ylabel=unit_name, title=title)
        handles, labels = axes.get_legend_handles_labels()
        legend = axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1))
        legend.set_title("at the moment marked")
        legend.set_alignment("left")
        suffix = path.suffix.lower().removeprefix(".")
        path.write_bytes(as_files(figure, [suffix])[suffix])


def bands(axes: Any, timeline: StepTimeline, unit: int, labels: Mapping[str, str], least_bytes: int = 1) -> None:
    """Draw a band for every category that reaches `least_bytes`, and the reserved bytes as a line above them.

    Each is drawn down to the axis, behind the ones below it: that takes half as many points as its own two edges.
    """
    edges = [*timeline.at, timeline.events]
    tops = np.cumsum(np.array(list(timeline.size_bytes.values())), axis=0) / unit
    for place, (name, size_bytes) in enumerate(timeline.size_bytes.items()):
        if max(size_bytes) >= least_bytes:
            look = RESERVED_ALONE if name == "fragmentation" else {"facecolor": COLORS[name]}
            label, order = labels.get(name, name), 1 - place / len(tops)
            band = axes.stairs(tops[place], edges, fill=True, linewidth=0, label=label, zorder=order, **look)
            tip(band, f"{name}: up to {max(size_bytes) / unit:.3g} {'GiB' if unit == GiB else 'MiB'}")
    axes.stairs(tops[-1], edges, baseline=None, color="black", linewidth=1, label="reserved")
    axes.set_xlim(edges[0], edges[-1])


def allocated_at_moment(timeline: StepTimeline) -> int:
    """Bytes in blocks at the moment marked."""
    column = int(np.searchsorted(timeline.at, timeline.moment, side="right")) - 1
    return sum(of_category[column] for of_category in list(timeline.size_bytes.values())[:-1])


def innermost(place: str) -> str:
    """The last line of several: "b.py:7" of "a.py:3 > b.py:7"."""
    return place.rsplit(" > ", 1)[-1]


def _name_phases(axes: Any, timeline: StepTimeline, usable: float) -> None:
    for span in timeline.phases:
        if span.start:
            axes.axvline(span.start, ymax=usable * 1.10 / (usable * 1.14), color=NOTE[0], linewidth=0.8)
        if span.stop - span.start >= _LEAST_SPAN * timeline.events:
            middle = (span.start + span.stop) / 2
            axes.text(middle, usable * 1.10, span.phase, ha="center", va="top", fontsize=10, color=NOTE[0])


def _point_at_moment(axes: Any, timeline: StepTimeline, note: str, usable: float, unit: int) -> None:
    to_the_left = timeline.moment > timeline.events / 2
    height = allocated_at_moment(timeline) / unit
    axes.annotate(
        note,
        xy=(timeline.moment, height),
        xytext=(-18 if to_the_left else 18, 32 if height < 0.8 * usable else -40),
        textcoords="offset points",
        ha="right" if to_the_left else "left",
        va="center",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": NOTE[0], "linewidth": 0.8},
        arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1},
    )
