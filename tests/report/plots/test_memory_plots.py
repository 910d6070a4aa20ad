from handmade import card, memory

from bench.report.plots import memory as pictures
from bench.report.plots import style
from bench.units import GiB, MiB

SMALL, LARGE = memory("DEQ4IP", 512 * MiB), memory("LU-DnCNN", 10 * GiB)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def points(axes):
    return {line.get_gid().removeprefix("tip:"): line.get_xdata()[0] for line in axes.lines if line.get_gid()}


def test_points_are_the_largest_batches_and_rows_say_their_names_and_numbers():
    with style.style():
        (axes,) = pictures.largest_batch([LARGE, SMALL]).axes
    assert points(axes) == {
        "LU-DnCNN on ct, 24GB: 2 images": 2,  # (24 GiB - 500 MiB) / 10 GiB
        "DEQ4IP on ct, 8GB: 15 images": 15,
        "DEQ4IP on ct, 24GB: 47 images": 47,
    }
    assert texts(axes) == ["none", "15", "2", "47"]
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    assert rows == ["8GB", "LU-DnCNN", "DEQ4IP", "24GB", "LU-DnCNN", "DEQ4IP"]
    heights = [line.get_ydata()[0] for line in axes.lines]
    assert len(set(heights)) == len(heights)  # none lies behind another


def test_a_line_reaches_from_one_bound_to_the_other():
    bounds = SMALL.memory.cards[0].edges
    edges = bounds | {"low": bounds["low"].model_copy(update={"largest_batch": 20})}
    cards = [SMALL.memory.cards[0].model_copy(update={"edges": edges})]
    bounded = SMALL.model_copy(update={"memory": SMALL.memory.model_copy(update={"cards": cards})})
    with style.style():
        (axes,) = pictures.largest_batch([bounded]).axes
    (interval, point) = axes.lines
    assert (list(interval.get_xdata()), list(point.get_xdata())) == ([15, 20], [15])
    assert texts(axes) == ["15 to 20"]


def test_an_exact_answer_reaches_nowhere():
    result = SMALL.memory.cards[0]
    edges = result.edges | {"low": result.edges["low"].model_copy(update={"largest_batch": 20})}
    assert pictures._reach(result.model_copy(update={"edges": edges})) == 5
    assert pictures._reach(result.model_copy(update={"edges": edges | {"exact": result.edges["high"]}})) == 0


def test_lines_have_the_slope_of_an_image_and_go_through_the_largest_peak_allocated():
    with style.style():
        (axes,) = pictures.memory_by_batch([SMALL]).axes
    (line, first, second, *caps) = axes.lines
    assert [(*each.get_xdata(), *each.get_ydata()) for each in (first, second)] == [
        (15, 15 * 0.5 + 20 / 1024),
        (47, 47 * 0.5 + 20 / 1024),
    ]
    assert list(line.get_xdata()) == [1, 47]
    assert list(line.get_ydata()) == [0.5, 47 * 0.5]  # allocated, not reserved
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")  # so that the slope is seen
    assert [cap.get_ydata()[0] for cap in caps] == [8 - 500 / 1024, 24 - 500 / 1024]
    assert texts(axes) == ["8GB", "24GB", "DEQ4IP: 512 MiB per image"]
    assert first.get_markerfacecolor() == "white"  # a bound


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
        (rows,) = pictures.largest_batch([record]).axes
        (lines,) = pictures.memory_by_batch([record]).axes
        style.as_files(lines.figure, ["png"])
    assert texts(rows) == ["none", "none"]
    assert texts(lines) == ["8GB", "24GB"]
