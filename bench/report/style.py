"""The look of pictures: one style file, one look per method, and files that are equal whenever they are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

_STYLE_FILE = Path(__file__).with_name("bench.mplstyle")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "ooo", "+++")
_UNDATED: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Look(NamedTuple):
    """What tells a method apart: in colour, in grey, as a point, as a line and as an area."""

    color: str
    marker: str
    linestyle: Any
    hatch: str

    @property
    def line(self) -> dict[str, Any]:
        """Of a line with points."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}

    @property
    def point(self) -> dict[str, Any]:
        """Of a point."""
        return {"color": self.color, "marker": self.marker, "linestyle": "none"}

    @property
    def area(self) -> dict[str, Any]:
        """Of a bar."""
        return {"facecolor": self.color, "hatch": self.hatch, "edgecolor": "white", "linewidth": 0}


def style() -> AbstractContextManager[None]:
    """The style file; for drawing and for saving."""
    return matplotlib.rc_context(fname=_STYLE_FILE)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method, in their order, from the style in force. Beyond eight, looks come again."""
    cycle = list(matplotlib.rcParams["axes.prop_cycle"])
    return {
        method: Look(**cycle[place % len(cycle)], hatch=_HATCHES[place % len(_HATCHES)])
        for place, method in enumerate(dict.fromkeys(methods))
    }


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_inches, height_inches))
    FigureCanvasAgg(figure)
    return figure


def as_file(figure: Figure, suffix: str) -> bytes:
    """The figure as a file of one of `FORMATS`; the same bytes at any time."""
    file = BytesIO()
    figure.savefig(file, format=suffix, metadata=_UNDATED[suffix])
    return file.getvalue()
