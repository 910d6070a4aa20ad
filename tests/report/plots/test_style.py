"""What all plots share: panels, and one legend beneath them."""

import pytest

from bench.report.plots.style import as_files, finish, style, task_grid

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
