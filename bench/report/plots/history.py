"""Numbers over time: a panel for each task and number, a line for each architecture, with bounds where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from bench.files import write_atomically
from bench.report.plots.style import as_files, finish, looks, new_figure, style, tip
from bench.report.terminal.history import SHOWN, Key, Point, called
from bench.units import MiB

_MOST_LABELS = 8


def draw(sets: Mapping[str, Mapping[Key, Point]], path: Path) -> None:
    """Write a picture of sets that have numbers, the oldest first: `points` by the label of their set."""
    with style():
        figure = _draw(sets)
        suffix = path.suffix.removeprefix(".")
        write_atomically(path, as_files(figure, [suffix])[suffix])


def _draw(sets: Mapping[str, Mapping[Key, Point]]) -> Figure:
    keys = dict.fromkeys(key for of_set in sets.values() for key in of_set)
    tasks = list(dict.fromkeys(task for task, *_ in keys))
    numbers = list(dict.fromkeys((name, card) for _, _, name, card in keys))
    look = looks(architecture for _, architecture, _, _ in keys)
    figure = new_figure(3.6 * len(tasks), 0.6 + 2.2 * len(numbers))
    panels = figure.subplots(len(numbers), len(tasks), squeeze=False, sharex=True)
    labels = list(sets)
    for task, axes in zip(tasks, panels[0], strict=True):
        axes.set_title(task)
    for (name, card), row in zip(numbers, panels, strict=True):
        scale, unit = (MiB, "MiB") if SHOWN[name][0] == "bytes" else (1, SHOWN[name][0])
        for task, axes in zip(tasks, row, strict=True):
            for architecture in look:
                found = [of_set.get((task, architecture, name, card)) for of_set in sets.values()]
                there = [(place, point) for place, point in enumerate(found) if point is not None]
                if not there:
                    continue
                places = [place for place, _ in there]
                values = [point.value / scale for _, point in there]
                (line,) = axes.plot(places, values, **look[architecture].line, label=architecture)
                tip(line, f"{architecture} on {task}: {called(name, card)}, from {values[0]:.4g} to {values[-1]:.4g}")
                for place, point in there:
                    if point.lower is not None and point.upper is not None:
                        ends = [point.lower / scale, point.upper / scale]
                        axes.plot([place] * 2, ends, "-", color=look[architecture].color, marker="none", linewidth=1)
            step = -(-len(labels) // _MOST_LABELS)
            axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=30, ha="right")
            axes.set_ylim(bottom=0)
        row[0].set_ylabel(f"{called(name, card)},\n{unit}".replace(" bytes", ""))
    finish(figure)
    return figure
