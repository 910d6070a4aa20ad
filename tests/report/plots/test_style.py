"""What all plots share: panels, and one legend beneath them."""

from io import BytesIO
from xml.etree import ElementTree

import pytest
from PIL import Image

from bench.report.plots.style import as_files, finish, sign, style, task_grid, tip

TASKS = ["deblurring", "ct", "mri-4x", "mri-8x", "denoising"]


def finished(tasks, labels):
    figure, axes_of = task_grid(tasks)
    for axes in axes_of.values():
        axes.set(xlabel="batch, images", ylabel="peak, GiB\n(a second line)")
        for place in range(labels):
            axes.plot([1, 2], [place, place + 1], label=f"a method called {place}")
    finish(figure)
    return figure


def panel_inches(figure):
    width, height = figure.get_size_inches()
    return [(axes.get_position().width * width, axes.get_position().height * height) for axes in figure.axes]


@pytest.fixture(autouse=True)
def in_style():
    with style():
        yield


@pytest.mark.parametrize("tasks", [1, 3, 5])
@pytest.mark.parametrize("labels", [1, 4, 13])
def test_the_legend_stands_beneath_all_panels_and_inside_the_figure(tasks, labels):
    figure = finished(TASKS[:tasks], labels)
    (legend,) = figure.legends
    foot = min(axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    box = legend.get_window_extent()
    assert box.y1 <= foot
    assert figure.bbox.y0 <= box.y0
    assert max(axes.get_tightbbox().y1 for axes in figure.axes if axes.axison) <= figure.bbox.y1


def test_a_longer_legend_takes_nothing_from_the_panels():
    few, many = finished(TASKS[:3], 1), finished(TASKS[:3], 13)
    assert many.get_figheight() > few.get_figheight()
    for mine, theirs in zip(panel_inches(few), panel_inches(many), strict=True):
        assert mine == pytest.approx(theirs, rel=0.02)  # numbers along the axes differ in width


def test_the_layout_is_made_once(monkeypatch):
    """Saving draws once: a figure whose layout is still to be made would be drawn before that as well."""
    figure = finished(TASKS[:1], 2)
    drawn = []
    draw = type(figure).draw
    monkeypatch.setattr(type(figure), "draw", lambda self, renderer: (drawn.append(self), draw(self, renderer))[1])
    as_files(figure, ["svg", "png", "pdf"])
    assert len(drawn) == 3


def test_a_shape_says_what_it_is_in_svg_whose_text_is_text():
    figure, axes_of = task_grid(TASKS[:1])
    (line,) = axes_of["deblurring"].plot([1, 2], [1, 2])
    tip(line, 'a "method" & <b>')
    svg = as_files(figure, ["svg"])["svg"].decode()
    root = ElementTree.fromstring(svg)
    (title,) = root.iter("{http://www.w3.org/2000/svg}title")
    assert title.text == 'a "method" & <b>'
    assert "tip:" not in svg
    assert "deblurring" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_picture_says_where_its_numbers_come_from():
    figure = finished(TASKS[:1], 1)
    before = figure.get_figheight()
    sign(figure, "torch 2.13.0, commit abc")
    (legend,) = figure.legends
    (text,) = figure.texts
    assert figure.get_figheight() > before
    figure.canvas.draw()
    assert figure.bbox.y0 <= text.get_window_extent().y0
    assert text.get_window_extent().y1 <= legend.get_window_extent().y0
    made = as_files(figure, ["png", "svg", "pdf"], "torch 2.13.0, commit abc")
    with Image.open(BytesIO(made["png"])) as picture:
        assert picture.text["Description"] == "torch 2.13.0, commit abc"
    assert all(b"torch 2.13.0, commit abc" in made[suffix] for suffix in ("svg", "pdf"))
