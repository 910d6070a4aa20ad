"""Names beside points and over lines, which lie on nothing else."""

import itertools

import pytest

from bench.report.plots.labels import Named, name_ends, name_points
from bench.report.plots.style import new_figure, style


@pytest.fixture
def axes():
    with style():
        figure = new_figure(4, 3)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        yield axes


def boxes(axes):
    axes.figure.canvas.draw()
    return {text.get_text(): text.get_window_extent() for text in axes.texts}


def overlapping(found):
    return [(a, b) for a, b in itertools.combinations(found, 2) if found[a].overlaps(found[b])]


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0])
def test_names_of_points_that_lie_close_do_not_overlap(axes, gap):
    name_points(axes, [Named(5 + gap * place, 5, f"method {place}", "black") for place in range(4)])
    found = boxes(axes)
    assert len(found) == 4 and not overlapping(found)


def test_a_name_at_the_edge_stays_inside(axes):
    name_points(axes, [Named(9.8, 9.8, "a long name", "black"), Named(0.1, 0.1, "another one", "black")])
    panel = axes.get_window_extent()
    for box in boxes(axes).values():
        assert panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1


def test_a_name_keeps_clear_of_the_steps(axes):
    name_points(axes, [Named(2, 5, "name", "black")], steps=[(2, 5), (8, 9)])
    start, _ = axes.transData.transform((2, 5))
    box = boxes(axes)["name"]
    _, level = axes.transData.transform((2, 5))
    assert box.x1 <= start or box.y0 > level or box.y1 < level


def test_names_over_lines_stand_in_rows_above_the_panel_and_below_the_title(axes):
    axes.set_title("title")
    name_ends(axes, [Named(x, 10, f"method {x}: 100 MiB per image", "black") for x in (2, 3, 9)])
    found = boxes(axes)
    assert not overlapping(found)
    assert all(box.y0 >= axes.get_window_extent().y1 for box in found.values())
    assert all(box.y1 <= axes.title.get_window_extent().y0 or not axes.title.get_text() for box in found.values())
    assert max(box.y1 for box in found.values()) <= axes._left_title.get_window_extent().y0
