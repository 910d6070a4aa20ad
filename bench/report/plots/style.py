"""The look of pictures: one style file, one look per method, and files that are equal whenever they are drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from bench.report.paper import paper_tables
from bench.report.plots.palette import NOTE

FORMATS = ("png", "svg", "pdf")

_STYLE_FILE = Path(__file__).with_name("bench.mplstyle")
_TIP = "tip:"  # begins the names of shapes that say what they are
_TIPPED = re.compile(rf"""(<g) id=(["']){_TIP}(.*?)\2>""")
_FEW_NUMBERS = 150  # a logarithmic axis that spans less has 2 and 5 beside 1
_NO_DECADE = 5  # one that spans less is no more than a part of a decade
_UNDATED: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_SIGNATURE_INCHES = 0.22
_ABOUT = {"png": "Description", "svg": "Description", "pdf": "Subject"}


class Look(NamedTuple):
    """What tells a method apart: in colour, and in grey as a point and as a line."""

    color: str
    marker: str
    linestyle: Any

    @property
    def line(self) -> dict[str, Any]:
        """Of a line with points."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}

    @property
    def point(self) -> dict[str, Any]:
        """Of a point."""
        return {"color": self.color, "marker": self.marker, "linestyle": "none"}


def style() -> AbstractContextManager[None]:
    """The style file; for drawing and for saving."""
    return matplotlib.rc_context(fname=_STYLE_FILE)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method, from the style in force. The paper's have theirs in every plot, others those behind.

    Beyond eight, looks come again.
    """
    cycle = list(matplotlib.rcParams["axes.prop_cycle"])
    methods = list(methods)
    places = {name: place for place, name in enumerate(dict.fromkeys([*paper_tables()["parameters"]["ct"], *methods]))}
    return {method: Look(**cycle[places[method] % len(cycle)]) for method in methods}


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_inches, height_inches))
    FigureCanvasAgg(figure)
    return figure


def tip(artist: Artist, text: str) -> None:
    """Say what a shape is: the title that it has in an SVG file, which browsers show under the pointer."""
    artist.set_gid(_TIP + text)


def as_files(figure: Figure, formats: Iterable[str], about: str = "") -> dict[str, bytes]:
    """The figure as files of some of `FORMATS`; the same bytes at any time.

    Args:
        figure: what is drawn.
        formats: of the files.
        about: where the numbers come from; it stands in the files' metadata.
    """
    return {suffix: _as_file(figure, suffix, about) for suffix in formats}


def _as_file(figure: Figure, suffix: str, about: str) -> bytes:
    file = BytesIO()
    metadata = _UNDATED[suffix] | ({_ABOUT[suffix]: about} if about else {})
    figure.savefig(file, format=suffix, metadata=metadata)
    content = file.getvalue()
    return _TIPPED.sub(r"\1><title>\3</title>", content.decode()).encode() if suffix == "svg" else content


def sign(figure: Figure, text: str) -> None:
    """Write beneath a finished figure where its numbers come from."""
    _extend_beneath(figure, _SIGNATURE_INCHES)
    height = figure.get_figheight()
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0, _SIGNATURE_INCHES / height, 1, 1))
    figure.text(0.06 / figure.get_figwidth(), 0.06 / height, text, fontsize=7, color=NOTE[0])


def task_grid(
    tasks: Sequence[str], width_inches: float = 3.4, height_inches: float = 3.0
) -> tuple[Figure, dict[str, Any]]:
    """A figure with one panel per task, four in a row; and the axes by task."""
    columns = min(len(tasks), 4)
    rows = -(-len(tasks) // columns)
    figure = new_figure(width_inches * columns, height_inches * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for task, each in zip(tasks, axes, strict=False):
        each.set_title(task)
    for unused in axes[len(tasks) :]:
        unused.set_axis_off()
    return figure, dict(zip(tasks, axes, strict=False))


def finish(figure: Figure) -> None:
    """Lay the panels out, and add one legend beneath that has each label once. To be called when all is drawn."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.tight_layout()
    figure.set_layout_engine(None)  # it is done: saving need not draw twice
    if handles:
        entry_inches = 0.6 + 0.075 * max(map(len, handles))  # its line and its letters
        columns = max(1, int(figure.get_figwidth() / entry_inches))
        rows = -(-len(handles) // columns)
        _extend_beneath(figure, 0.1 + 0.21 * rows)
        figure.legend(list(handles.values()), list(handles), loc="lower center", ncols=columns)


def _extend_beneath(figure: Figure, inches: float) -> None:
    """Make a figure higher by an empty strip at its foot; its panels keep their sizes."""
    panels, old = figure.subplotpars, figure.get_figheight()
    new = old + inches
    figure.set_figheight(new)
    figure.subplots_adjust(bottom=(panels.bottom * old + inches) / new, top=(panels.top * old + inches) / new)


def plot_to_infinity(
    axes: Any, x: Sequence[float], y: Sequence[float], look: Mapping[str, Any], said: str, **how: Any
) -> None:
    """Plot a line or points; those at infinity stand on the upper edge, which says so, and are not joined.

    `said` is what the line or the points are.
    """
    (line,) = axes.plot(
        [a for a, b in zip(x, y, strict=True) if b != math.inf], [b for b in y if b != math.inf], **look, **how
    )
    tip(line, said)
    at_infinity = [a for a, b in zip(x, y, strict=True) if b == math.inf]
    if at_infinity:
        edge = axes.get_xaxis_transform()
        apart = {**look, **how, "label": "_infinite", "linestyle": "none"}
        axes.plot(at_infinity, [1] * len(at_infinity), **apart, transform=edge, clip_on=False)
        axes.annotate("inf", (at_infinity[-1], 1), (6, -3), xycoords=edge, textcoords="offset points", fontsize=8)


def log_scale(axes: Any, which: Literal["x", "y", "both"]) -> None:
    """Make axes, whose data are drawn, logarithmic with their numbers written out: 0.5, 1, 2.

    Axes without a number above 0 stay as they are.
    """
    for name in ("x", "y") if which == "both" else (which,):
        if getattr(axes.dataLim, f"minpos{name}") == math.inf:
            continue
        axes.set(**{f"{name}scale": "log"})
        low, high = getattr(axes, f"get_{name}lim")()
        axis = getattr(axes, f"{name}axis")
        if high < _NO_DECADE * low:  # a LogLocator would name every number, one over the other
            axis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        else:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _FEW_NUMBERS * low else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
