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


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        draw: From the records to show and the run's output folder; None where they lack its data.
        needs: The stages that give its data.
    """

    draw: Callable[[Sequence[Record], Path], Figure | None]
    needs: str


def _of_records(draw: Callable[[Sequence[Record]], Figure | None]) -> Callable[[Sequence[Record], Path], Figure | None]:
    return lambda records, folder: draw(records)


PLOTS = {
    "largest-batch": Plot(_of_records(memory.largest_batch), "memory"),
    "memory-by-batch": Plot(_of_records(memory.memory_by_batch), "memory"),
    "composition": Plot(_of_records(profile.composition), "profile"),
    "timeline": Plot(_of_records(profile.timeline), "profile"),
    "time-against-memory": Plot(_of_records(tradeoffs.time_against_memory), "timing"),
    "psnr-against-memory": Plot(_of_records(tradeoffs.psnr_against_memory), "timing,accuracy"),
    "psnr-against-time": Plot(_of_records(tradeoffs.psnr_against_time), "timing,accuracy"),
    "training-curves": Plot(_of_records(curves.draw), "accuracy"),
    "figure-2": Plot(figure2.draw, "accuracy"),
}
"""By their names, which are those of the files."""


def shown(records: Sequence[Record]) -> list[Record]:
    """What the plots show of all records, in the order of the tables; see `newest`."""
    return in_order(record for stage in get_args(Stage) for record in newest(records, stage))


def files(name: str, records: Sequence[Record], folder: Path, formats: Sequence[str]) -> dict[str, bytes]:
    """A plot as files, by format; none where its data are lacking.

    Raises:
        OSError: a file that a record names cannot be read.
        ValueError: it is damaged.
    """
    with style.style():
        figure = PLOTS[name].draw(records, folder)
        return style.as_files(figure, formats) if figure else {}
