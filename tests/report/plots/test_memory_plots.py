import numpy as np
from handmade import card, memory

from bench.report.plots import memory as pictures
from bench.report.plots import style
from bench.units import GiB, MiB

SMALL, LARGE = memory("DEQ4IP", 512 * MiB), memory("LU-DnCNN", 10 * GiB)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_bars_are_the_largest_batches_and_say_where_none_fits():
    with style.style():
        (axes,) = pictures.largest_batch([LARGE, SMALL]).axes
    assert [[bar.get_y() + bar.get_height() for bar in bars.patches] for bars in axes.containers[1::2]] == [
        [0.5, 2],  # the axis begins at 0.5; (24 GiB - 500 MiB) / 10 GiB
        [15, 47],
    ]
    assert texts(axes) == ["none", "2", "15", "47"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8GB", "24GB"]


def test_a_whisker_reaches_to_the_other_bound_unless_the_answer_is_exact():
    result = SMALL.memory.cards[0]
    edges = result.edges | {"low": result.edges["low"].model_copy(update={"largest_batch": 20})}
    assert pictures._reach(result.model_copy(update={"edges": edges})) == 5
    assert pictures._reach(result.model_copy(update={"edges": edges | {"exact": result.edges["high"]}})) == 0


def test_lines_have_the_slope_of_an_image_and_go_through_the_largest_peak_allocated():
    with style.style():
        (axes,) = pictures.memory_by_batch([SMALL]).axes
    (line, points, _, *caps) = axes.lines
    peaks = {15: 15 * 0.5 + 20 / 1024, 47: 47 * 0.5 + 20 / 1024}
    assert dict(zip(points.get_xdata(), points.get_ydata(), strict=True)) == peaks
    assert line.get_xdata()[-1] == 47
    assert line.get_ydata()[-1] == 47 * 0.5  # allocated, not reserved
    np.testing.assert_allclose(np.diff(line.get_ydata()), 0.5)
    assert [cap.get_ydata()[0] for cap in caps] == [8 - 500 / 1024, 24 - 500 / 1024]
    assert texts(axes) == ["8GB", "24GB"]
    assert points.get_markerfacecolor() == "white"  # a bound


def test_points_that_are_exact_are_full():
    exact = SMALL.memory.model_copy(update={"cards": [card("8GB", 8 * GiB, 512 * MiB, ("exact", "high", "low"))]})
    with style.style():
        (axes,) = pictures.memory_by_batch([SMALL.model_copy(update={"memory": exact})]).axes
    assert axes.lines[1].get_markerfacecolor() == axes.lines[1].get_color()


def test_nothing_is_drawn_of_nothing():
    for draw in (pictures.largest_batch, pictures.memory_by_batch):
        assert draw([]) is None


def test_a_cell_that_fits_no_card_leaves_the_pictures_empty():
    record = memory("LU-DnCNN", 100 * GiB)
    with style.style():
        (bars,) = pictures.largest_batch([record]).axes
        (lines,) = pictures.memory_by_batch([record]).axes
        style.as_files(lines.figure, ["png"])
    assert texts(bars) == ["none", "none"]
    assert texts(lines) == ["8GB", "24GB"]
