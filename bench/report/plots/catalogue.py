"""The comparison plots: their names, what draws each, and which command measures what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from matplotlib.figure import Figure

from bench.records import Record, Stage
from bench.report.methods import in_order, newest
from bench.report.plots import curves, figure2, memory, profile, style, tradeoffs
from bench.report.provenance import credit


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        draw: From the records to show and the run's output folder; None where they lack its data.
        needs: The stages that give its data.
        panels: The stage whose tasks have a panel each.
    """

    draw: Callable[[Sequence[Record], Path], Figure | None]
    needs: str
    panels: Stage


def _of_records(draw: Callable[[Sequence[Record]], Figure | None]) -> Callable[[Sequence[Record], Path], Figure | None]:
    return lambda records, folder: draw(records)


PLOTS = {
    "largest-batch": Plot(_of_records(memory.largest_batch), "memory", "memory"),
    "memory-by-batch": Plot(_of_records(memory.memory_by_batch), "memory", "memory"),
    "composition": Plot(_of_records(profile.composition), "profile", "profile"),
    "timeline": Plot(_of_records(profile.timeline), "profile", "profile"),
    "time-against-memory": Plot(_of_records(tradeoffs.time_against_memory), "timing", "timing"),
    "psnr-against-memory": Plot(_of_records(tradeoffs.psnr_against_memory), "timing,accuracy", "accuracy"),
    "psnr-against-time": Plot(_of_records(tradeoffs.psnr_against_time), "timing,accuracy", "accuracy"),
    "training-curves": Plot(_of_records(curves.draw), "accuracy", "accuracy"),
    "figure-2": Plot(figure2.draw, "accuracy", "accuracy"),
}
"""By their names, which are those of the files."""


def shown(records: Sequence[Record]) -> list[Record]:
    """What the plots show of all records, in the order of the tables; see `newest`."""
    return in_order(record for stage in get_args(Stage) for record in newest(records, stage))


def files(name: str, records: Sequence[Record], folder: Path, formats: Sequence[str]) -> dict[str, bytes]:
    """A plot as files, by format, signed with where its numbers come from; none where its data are lacking.

    Raises:
        OSError: a file that a record names cannot be read.
        ValueError: it is damaged.
    """
    with style.style():
        figure = PLOTS[name].draw(records, folder)
        if figure is None:
            return {}
        about = credit([record for record in records if record.stage in PLOTS[name].needs.split(",")])
        style.sign(figure, about)
        return style.as_files(figure, formats, about)


def panels(name: str, records: Sequence[Record], folder: Path) -> dict[str, str]:
    """A plot for a page that is as narrow as its reader's: one SVG file per task; see `files`."""
    plot = PLOTS[name]
    made = {}
    for task in dict.fromkeys(record.task for record in records if record.stage == plot.panels):
        of_task = [record for record in records if record.stage != plot.panels or record.task == task]
        with style.style():
            figure = plot.draw(of_task, folder)
            if figure is not None:
                made[task] = style.as_files(figure, ["svg"])["svg"].decode()
    return made
