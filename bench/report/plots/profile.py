"""Pictures of the stage profile: what each method's peak is made of, and memory over a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.records import Composition, Profile, Record
from bench.report.methods import by_task, label, newest
from bench.report.plots.palette import CONTEXT, LIMIT, NORMALISATIONS, NOTE, OTHER_ACTIVATIONS
from bench.report.plots.style import finish, new_figure, task_grid, tip
from bench.report.plots.timeline import COLORS, RESERVED_ALONE, allocated_at_moment, bands
from bench.units import GiB

_SAVED = "saved activations"
_THINNEST = 300  # of the card's memory: what takes less than this part of it in every event cannot be seen
_LEAST_SHARE = 0.01  # of a bar: what takes less of all of them is drawn as one part, and has one entry in the legend
_REST = "all else"
_LABELS = {"fragmentation": "reserved, not in use"}
_LOOKS: dict[str, dict[str, Any]] = {
    **{name: {"facecolor": color} for name, color in COLORS.items()},
    f"{_SAVED}: convolutions": {"facecolor": COLORS[_SAVED]},
    f"{_SAVED}: normalisations": {"facecolor": NORMALISATIONS[0]},
    f"{_SAVED}: others": {"facecolor": OTHER_ACTIVATIONS[0]},
    "fragmentation": RESERVED_ALONE,
    _REST: {"facecolor": CONTEXT[0]},
}
_ORDER = [
    *("parameters", "buffers", "optimiser state", "gradients", "batch"),
    *(f"{_SAVED}: {kind}" for kind in ("convolutions", "normalisations", "others")),
    *("temporaries", "workspace", "rounding", _REST, "fragmentation"),
]
"""Of what a bar is made of, from the left."""


def composition(records: Sequence[Record]) -> Figure | None:
    """Stacked bars: what each method's peak is made of at the same batch, where memory is no limit."""
    records = newest(records, "profile")
    if not records:
        return None
    tasks = by_task(records)
    rows = max(len(of_task) for of_task in tasks.values())
    figure, axes_of = task_grid(list(tasks), 3.9, 1.1 + 0.34 * rows)
    compositions = [(record, record.profile.reference) for record in records if record.profile]
    seen = _seen([_parts(made_of) for _, made_of in compositions])
    for task, of_task in tasks.items():
        axes = axes_of[task]
        made_of = {label(record, records): record.profile.reference for record in of_task if record.profile}
        _draw_bars(axes, {name: _joined(_parts(each), seen) for name, each in made_of.items()}, task)
        for place, each in enumerate(made_of.values()):
            peak = each.peak_reserved_bytes / GiB
            axes.annotate(f"{peak:.2f}", (peak, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_title(f"{task}, batch {next(iter(made_of.values())).batch}")
        axes.set_xlabel("peak reserved, GiB")
        axes.margins(x=0.18)
    finish(figure)
    return figure


def _parts(made_of: Composition) -> dict[str, int]:
    """Bytes by what a bar shows; they add up to what is reserved."""
    parts: Counter[str] = Counter()
    for category, groups in made_of.size_bytes.items():
        for group, size in groups.items():
            parts[f"{_SAVED}: {_kind(group)}" if category == _SAVED else category] += size
    return parts


def _seen(bars: Sequence[Mapping[str, int]]) -> set[str]:
    """The parts that take enough of some bar to be seen."""
    return {name for parts in bars for name, size in parts.items() if size >= _LEAST_SHARE * sum(parts.values())}


def _joined(parts: Mapping[str, int], seen: set[str]) -> dict[str, int]:
    """The parts that are seen, and all others as one."""
    rest = sum(size for name, size in parts.items() if name not in seen)
    return {name: size for name, size in parts.items() if name in seen} | ({_REST: rest} if rest else {})


def _kind(group: str) -> str:
    """Which saved activations a group is: of "denoiser, convolution" convolutions."""
    operation = group.rpartition(", ")[2]
    if operation.startswith("convolution"):
        return "convolutions"
    return "normalisations" if "norm" in operation else "others"


def _draw_bars(axes: Any, bars: Mapping[str, Mapping[str, int]], task: str) -> None:
    left = np.zeros(len(bars))
    for name in _ORDER:
        look = _LOOKS[name]
        widths = np.array([parts.get(name, 0) for parts in bars.values()]) / GiB
        if widths.any():
            shown = _LABELS.get(name, name)
            edge = {"edgecolor": "white", "linewidth": 0.5} if "hatch" not in look else {"linewidth": 0}
            drawn = axes.barh(list(bars), widths, 0.7, left, label=shown, **edge | look)
            for method, bar, width in zip(bars, drawn.patches, widths, strict=True):
                tip(bar, f"{method} on {task}: {shown}, {width:.2f} GiB")
        left += widths
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _batch(profile: Profile) -> str:
    return f"batch {profile.composition.batch}" if profile.fits else "1 does not fit"


def timeline(records: Sequence[Record]) -> Figure | None:
    """Stacked areas: memory over one training step on the card, a row per method, a column per task."""
    records = newest(records, "profile")
    if not records:
        return None
    tasks = by_task(records)
    methods = list(dict.fromkeys(label(record, records) for record in records))
    figure = new_figure(3.6 * len(tasks), 1.9 * len(methods))
    grid = figure.subplots(len(methods), len(tasks), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for of_task, column in zip(tasks.values(), grid.T, strict=True):
        for record in of_task:
            method = label(record, records)
            if record.profile:
                _draw_step(column[methods.index(method)], record.profile, f"{record.task}, {method}")
    for axes in grid[-1]:
        axes.set_xlabel("allocations and frees of the step, in order", fontsize=9)
    finish(figure)
    return figure


def _draw_step(axes: Any, profile: Profile, name: str) -> None:
    step, usable = profile.timeline, profile.usable_bytes / GiB
    axes.set_axis_on()
    axes.grid(visible=False)
    bands(axes, step, GiB, _LABELS, least_bytes=profile.usable_bytes // _THINNEST)
    axes.axhline(usable, color=LIMIT[0], linestyle=(0, (6, 3)), linewidth=1.2, label="usable on the card")
    height = allocated_at_moment(step) / GiB
    marker = {"marker": "v", "linestyle": "none", "color": "black", "markersize": 5}
    axes.plot([step.moment], [height], label="most allocated", **marker)
    for span in step.phases:
        if span.phase == "backward":
            axes.axvline(span.start, color=NOTE[0], linewidth=0.8, linestyle=":", label="backward begins")
    axes.set_ylim(0, 1.08 * usable)
    axes.set_title(f"{name}, {_batch(profile)}", fontsize=9, pad=5)
    axes.set_ylabel(f"GiB of {profile.card}", fontsize=8)
    axes.tick_params(labelsize=8)
