"""Figure 2: one test image of each task as every method reconstructs it, with errors and a detail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from safetensors import SafetensorError
from safetensors.numpy import load

from bench.files import read_regular
from bench.records import DataSets, Record
from bench.report.methods import CLASSICAL, INITIALISATION, in_order, label, newest
from bench.report.plots.style import new_figure
from bench.units import GiB

Floats = npt.NDArray[np.floating[Any]]

LARGEST_BYTES = GiB
LEAST_SIDE = 2  # pixels
DETAIL = 4  # the detail's side is the image's over this
MAGNIFIED = 0.42  # of the picture's side, that the detail takes
RED = "#e41a1c"
SHOWN = ("gradient descent", "total variation")
"""Of the classical methods those that stand beside the learned ones; the initialisation is there in any case."""

FEW_PIXELS = 128  # along a side; a panel of an SVG file has about as many
ERROR_QUANTILE = 0.995  # of all methods' errors but the initialisation's: the end of the scale


@dataclass(frozen=True)
class Panel:
    """One task: a test image [H, W] or [H, W, 3], the truth's display range scaled to [0, 1], and its reconstructions.

    `psnr_db` is of this image, by method. `start` is the detail's upper left corner, `side` its pixels.
    """

    task: str
    image_number: int
    truth: Floats
    reconstructions: dict[str, Floats]
    psnr_db: dict[str, float]
    start: tuple[int, int]
    side: int


def panels(records: Iterable[Record], folder: Path) -> list[Panel]:
    """A panel for each task whose reconstructions were kept; `folder` is the run's output folder.

    The image is the one whose PSNR, averaged over the methods, is the median of all that were kept; the detail is where
    the truth varies most. Neither favours a method.

    Raises:
        FileNotFoundError: a record names reconstructions that are not there.
        OSError: they cannot be read, are no regular file or outside the folder.
        ValueError: such a file is damaged, or its shapes differ from the other methods'.
    """
    newest_of_each = newest(in_order(records), "accuracy")
    done = [record for record in newest_of_each if record.architecture in SHOWN or record.architecture not in CLASSICAL]
    kept: dict[str, dict[str, dict[str, Floats]]] = {}
    data = {}
    for record in done:
        if record.accuracy and record.accuracy.reconstructions:
            tensors = _load(folder, record.accuracy.reconstructions)
            kept.setdefault(record.task, {})[label(record, done)] = tensors
            data[record.task] = record.accuracy.data
    return [_panel(task, methods, data[task]) for task, methods in kept.items()]


def _load(folder: Path, name: str) -> dict[str, Floats]:
    """Images [N, C, H, W] of one shape: truth, initialisation and reconstruction."""
    path = folder / name
    content = read_regular(path, LARGEST_BYTES, within=folder)
    try:
        tensors = load(content)
        found = {name: tensors[name] for name in ("truth", "initialisation", "reconstruction")}
        shapes = {images.shape for images in found.values()}
        if len(shapes) > 1 or len(min(shapes)) != 4 or 0 in min(shapes) or min(min(shapes)[2:]) < LEAST_SIDE:
            raise ValueError(f"shapes {sorted(shapes)}")
        if not all(np.issubdtype(images.dtype, np.floating) for images in found.values()):
            raise ValueError("no images")
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove its record, or train the cell again") from error
    return found


def _shown(images: Floats) -> Floats:
    """Images [N, C, H, W] as [N, H, W] (of two channels the magnitude) or, of photographs, [N, H, W, 3]."""
    channels = images.shape[1]
    if channels == 2:
        return np.hypot(images[:, 0], images[:, 1])
    return np.moveaxis(images, 1, -1) if channels == 3 else images[:, 0]


def _panel(task: str, methods: dict[str, dict[str, Floats]], data: DataSets) -> Panel:
    truth = next(iter(methods.values()))["truth"]
    images = {INITIALISATION: next(iter(methods.values()))["initialisation"]}
    images |= {method: tensors["reconstruction"] for method, tensors in methods.items()}
    for method, tensors in methods.items():
        if tensors["truth"].shape != truth.shape or not np.array_equal(tensors["truth"], truth):
            raise ValueError(
                f"{method} on {task} was tested on other images than {next(iter(methods))}: train them alike"
            )
    psnr_db = {method: _psnr_db(reconstruction, truth, data) for method, reconstruction in images.items()}
    of_image = np.mean(list(psnr_db.values()), axis=0)
    number = int(np.argsort(of_image, kind="stable")[(len(of_image) - 1) // 2])
    shown = _shown(truth)[number]
    side = max(min(shown.shape[:2]) // DETAIL, 2)
    low, high = (-1.0, 1.0) if shown.ndim == 3 and data.data_range == 2 else (0.0, float(shown.max()))
    span = high - low or 1.0  # of an image that is black
    return Panel(
        task=task,
        image_number=number,
        truth=(shown - low) / span,
        reconstructions={method: (_shown(image)[number] - low) / span for method, image in images.items()},
        psnr_db={method: float(values[number]) for method, values in psnr_db.items()},
        start=_most_detailed(shown, side),
        side=side,
    )


def _psnr_db(images: Floats, truth: Floats, data: DataSets) -> Floats:
    """PSNR of each image [N, C, H, W], 10 log10(range^2 / mean squared error), of what the record's is taken of."""
    pair = images.astype(float), truth.astype(float)
    if data.metric != "image":
        pair = (pair[0][:, 0], pair[1][:, 0]) if data.metric == "real" else (_shown(pair[0]), _shown(pair[1]))
    error = np.square(pair[0] - pair[1]).reshape(len(truth), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(data.data_range**2 / error))


def _most_detailed(image: Floats, side: int) -> tuple[int, int]:
    """The upper left corner of the square in which neighbouring pixels differ most."""
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    rows, columns = np.gradient(grey.astype(float))
    sums = np.pad(np.hypot(rows, columns).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return int(row), int(column)


def draw(records: Iterable[Record], folder: Path) -> Figure | None:
    """The figure, or None where no reconstructions were kept; see `panels` for what it raises."""
    return draw_panels(found) if (found := panels(records, folder)) else None


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Tasks down, each with its errors beneath; initialisation, methods and truth across."""
    methods = list(dict.fromkeys(method for panel in panels for method in panel.reconstructions))
    width, height = 1.8 * (len(methods) + 1) + 0.3, 3.85 * len(panels) + 0.25
    figure = new_figure(width, height)
    grid = figure.subplots(2 * len(panels), len(methods) + 1, squeeze=False)
    figure.subplots_adjust(0.3 / width, 0.02 / height, 0.995, 1 - 0.25 / height, wspace=0.03, hspace=0.14)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, name in zip(grid[0], [*methods, "truth"], strict=True):
        axes.set_title(name, loc="center")
    for panel, (above, beneath) in zip(panels, grid.reshape(len(panels), 2, -1), strict=True):
        errors = {method: _error(image, panel.truth) for method, image in panel.reconstructions.items()}
        learned = [error for method, error in errors.items() if method != INITIALISATION]
        end = float(np.quantile(learned, ERROR_QUANTILE)) or 1.0
        scale = ScalarMappable(Normalize(0, end), "magma")
        for place, method in enumerate(methods):
            if method in panel.reconstructions:
                _show(above[place], panel.reconstructions[method], panel)
                above[place].text(
                    0.5, -0.03, f"{panel.psnr_db[method]:.2f} dB", **_UNDER, transform=above[place].transAxes
                )
                beneath[place].imshow(errors[method], cmap=scale.cmap, norm=scale.norm, **_pixels(errors[method]))
            else:
                above[place].text(0.5, 0.5, "none", ha="center", va="center", transform=above[place].transAxes)
        _show(above[-1], panel.truth, panel)
        for axes, text in ((above[0], panel.task), (beneath[0], "error")):
            axes.text(-0.06, 0.5, text, rotation=90, ha="right", va="center", transform=axes.transAxes)
        above[-1].text(0.5, -0.03, f"test image {panel.image_number}", **_UNDER, transform=above[-1].transAxes)
        bar = figure.colorbar(scale, cax=beneath[-1].inset_axes((0.04, 0.06, 0.07, 0.88)), extend="max")
        bar.outline.set_visible(False)
    return figure


_UNDER: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 9}


def _error(image: Floats, truth: Floats) -> Floats:
    error = np.abs(image - truth)
    return error.mean(axis=-1) if error.ndim == 3 else error


def _pixels(image: Floats) -> dict[str, str]:
    """Pixels as squares; an image of few is stored as it is, and the reader's program enlarges it."""
    return {"interpolation": "none" if max(image.shape) <= FEW_PIXELS else "nearest"}


def _show(axes: Any, image: Floats, panel: Panel) -> None:
    """The image, a red box around the detail, and the detail magnified in the corner that is farthest from it."""
    image = image.clip(0, 1)
    how: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, **_pixels(image)}
    height, width = image.shape[:2]
    (row, column), side = panel.start, panel.side
    axes.imshow(image, **how)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), side, side, fill=False, edgecolor=RED, linewidth=1.2))
    left = 0.0 if column + side / 2 > width / 2 else 1 - MAGNIFIED
    bottom = 0.0 if row + side / 2 < height / 2 else 1 - MAGNIFIED
    inset = axes.inset_axes((left, bottom, MAGNIFIED, MAGNIFIED))
    inset.imshow(image[row : row + side, column : column + side], **how)
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(visible=True, color=RED, linewidth=1.5)
