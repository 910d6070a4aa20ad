"""Pictures of the stage profile: what each method's peak is made of, and memory over a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.records import Composition, Profile, Record
from bench.report.methods import by_task, label, newest
from bench.report.plots.style import finish, new_figure
from bench.report.plots.timeline import COLORS, RESERVED_ALONE, allocated_at_moment, bands
from bench.units import GiB

_CONTEXT = "CUDA context"
_SAVED = "saved activations"
_THINNEST = 300  # of the card's memory: what takes less than this part of it in every event cannot be seen
_LABELS = {"fragmentation": "reserved beside blocks"}
_LOOKS: dict[str, dict[str, Any]] = {
    _CONTEXT: {"facecolor": "#8c8c8c"},
    **{name: {"facecolor": color} for name, color in COLORS.items() if name != "fragmentation"},
    f"{_SAVED}: convolutions": {"facecolor": COLORS[_SAVED]},
    f"{_SAVED}: normalisations": {"facecolor": "#fae7b5", "hatch": "...", "edgecolor": "#b98d1f"},
    f"{_SAVED}: others": {"facecolor": "#b98d1f"},
    "temporaries": {"facecolor": COLORS["temporaries"]},
    "workspace": {"facecolor": COLORS["workspace"]},
    "rounding": {"facecolor": COLORS["rounding"]},
    "fragmentation": {"facecolor": COLORS["fragmentation"]} | RESERVED_ALONE,
}
"""Of what a bar is made of, from the bottom up."""


def composition(records: Sequence[Record]) -> Figure | None:
    """Stacked bars: what the peak is made of at each method's largest batch on the card, and below at equal batches."""
    records = newest(records, "profile")
    if not records:
        return None
    tasks = by_task(records)
    figure = new_figure(3.7 * len(tasks), 5.8)
    grid = figure.subplots(2, len(tasks), squeeze=False)
    for (task, of_task), (above, below) in zip(tasks.items(), grid.T, strict=True):
        profiles = {label(record, records): record.profile for record in of_task if record.profile}
        card = next(iter(profiles.values()))
        _draw_bars(above, {n: _parts(p.composition, p.context_bytes) for n, p in profiles.items()})
        total = card.total_bytes / GiB
        above.axhline(total, color="#606060", linewidth=1, linestyle=(0, (6, 3)), label="the card")
        _write_above(above, [_batch(profile) for profile in profiles.values()], [total] * len(profiles))
        above.set_title(f"{task}, {card.card}", pad=16)
        peaks = [profile.reference.peak_reserved_bytes / GiB for profile in profiles.values()]
        _draw_bars(below, {name: _parts(profile.reference) for name, profile in profiles.items()})
        _write_above(below, [f"{peak:.3g}" for peak in peaks], peaks)
        below.set_title(f"{task}, batch {card.reference.batch}, memory no limit", pad=12)
    finish(figure)
    return figure


def _parts(made_of: Composition, context_bytes: int = 0) -> dict[str, int]:
    """Bytes by what a bar shows; they add up to the context and what is reserved."""
    parts = Counter({_CONTEXT: context_bytes})
    for category, groups in made_of.size_bytes.items():
        for group, size in groups.items():
            parts[f"{_SAVED}: {_kind(group)}" if category == _SAVED else category] += size
    return parts


def _kind(group: str) -> str:
    """Which saved activations a group is: of "denoiser, convolution" convolutions."""
    operation = group.rpartition(", ")[2]
    if operation.startswith("convolution"):
        return "convolutions"
    return "normalisations" if "norm" in operation else "others"


def _draw_bars(axes: Any, bars: Mapping[str, Mapping[str, int]]) -> None:
    bottom = np.zeros(len(bars))
    for name, look in _LOOKS.items():
        heights = np.array([parts.get(name, 0) for parts in bars.values()]) / GiB
        if heights.any():
            axes.bar(list(bars), heights, 0.7, bottom, label=_LABELS.get(name, name), linewidth=0, **look)
        bottom += heights
    axes.set_ylim(bottom=0)
    axes.set_ylabel("GiB")
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", labelrotation=20)


def _write_above(axes: Any, texts: Sequence[str], heights: Sequence[float]) -> None:
    for place, (text, height) in enumerate(zip(texts, heights, strict=True)):
        axes.annotate(text, (place, height), (0, 3), textcoords="offset points", ha="center", fontsize=8)


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
    axes.axhline(usable, color="#b00020", linestyle=(0, (6, 3)), linewidth=1.2, label="usable on the card")
    height = allocated_at_moment(step) / GiB
    marker = {"marker": "v", "linestyle": "none", "color": "black", "markersize": 5}
    axes.plot([step.moment], [height], label="most allocated", **marker)
    for span in step.phases:
        if span.phase == "backward":
            axes.axvline(span.start, color="#707070", linewidth=0.8, linestyle=":", label="backward begins")
    axes.set_ylim(0, 1.08 * usable)
    axes.set_title(f"{name}, {_batch(profile)}", fontsize=9, pad=5)
    axes.set_ylabel(f"GiB of {profile.card}", fontsize=8)
    axes.tick_params(labelsize=8)
