"""How cells that are being measured are watched: bars in a terminal, elsewhere a line for each that is finished."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from bench.commands.common import say

if TYPE_CHECKING:  # torch takes over a second to import: only a measurement pays for it
    from rich.progress import Progress as RichProgress

    from bench.cells.cell import Cell
    from bench.execution.progress import Progress
    from bench.records import Record


class Watcher(Protocol):
    """Is told how far each cell is, by its place."""

    def hear(self, place: int, heard: Progress) -> None:
        """A cell has begun, or is so far."""

    def finish(self, place: int, record: Record, is_new: bool) -> None:
        """A cell has its record, made now or before."""


@contextmanager
def watched(cells: Sequence[Cell]) -> Iterator[Watcher]:
    """Watch these cells on stderr."""
    if not sys.stderr.isatty():
        yield _Lines(len(cells))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bars(progress, cells)


class Bars:
    """One bar for each cell. The clock of a cell that waits stands still."""

    def __init__(self, progress: RichProgress, cells: Sequence[Cell]) -> None:
        self._progress = progress
        self._bars = [
            progress.add_task(f"{cell.architecture} on {cell.task}", start=False, total=None, status="waiting")
            for cell in cells
        ]

    def hear(self, place: int, heard: Progress) -> None:
        """A cell has begun, or is so far."""
        bar = self._bars[place]
        if self._progress.tasks[place].start_time is None:
            self._progress.start_task(bar)
        self._progress.update(bar, total=heard.total, completed=heard.done, status=heard.status)

    def finish(self, place: int, record: Record, is_new: bool) -> None:
        """A cell has its record."""
        status = record.status if is_new else "recorded before"
        self._progress.update(self._bars[place], total=1, completed=1, status=status)
        self._progress.stop_task(self._bars[place])


class _Lines:
    """One line for each cell that is measured now, when it is finished."""

    def __init__(self, cells: int) -> None:
        self._cells, self._finished = cells, 0

    def hear(self, place: int, heard: Progress) -> None:
        """Nothing is said before the end."""

    def finish(self, place: int, record: Record, is_new: bool) -> None:
        """A cell has its record."""
        self._finished += 1
        if is_new:
            what = f"{record.architecture} on {record.task}, {record.stage}: {record.status}"
            say(f"{self._finished} of {self._cells}: {what} ({record.seconds:.1f} s)")
