import numpy as np
import pytest
from handmade import made_of, profile

from bench.report.plots import profile as pictures
from bench.report.plots import style
from bench.units import GiB

SMALL, LARGE = profile("DEQ4IP"), profile("LU-DnCNN", 8 * GiB)


def drawn(draw, *records):
    with style.style():
        return draw(records)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_bar_adds_up_to_what_is_reserved():
    (axes,) = drawn(pictures.composition, LARGE, SMALL).axes
    peaks = [each.profile.reference.peak_reserved_bytes for each in (LARGE, SMALL)]
    widths = np.array([[bar.get_width() for bar in bars.patches] for bars in axes.containers])
    np.testing.assert_allclose(widths.sum(axis=0) * GiB, peaks)
    lefts = np.array([[bar.get_x() for bar in bars.patches] for bars in axes.containers])
    np.testing.assert_allclose(lefts[1:], np.cumsum(widths, axis=0)[:-1])  # stacked, without gaps
    assert texts(axes) == [f"{peak / GiB:.2f}" for peak in peaks]
    assert axes.get_title("left") == "ct, batch 16"


def test_saved_activations_are_told_apart_by_what_made_them():
    parts = pictures._parts(made_of(2, 10, 5, parameters=1, fragmentation=7))
    assert {name: size for name, size in parts.items() if size} == {
        "parameters": 1,
        "saved activations: convolutions": 10,
        "saved activations: normalisations": 5,
        "fragmentation": 7,
    }
    assert pictures._kind("net, cat") == "others"
    assert pictures._kind("mul") == "others"


def test_what_is_too_thin_to_be_seen_is_one_part_and_one_entry_of_the_legend():
    bars = [{"batch": 1000, "buffers": 1, "rounding": 2}, {"batch": 10, "gradients": 10}]
    seen = pictures._seen(bars)
    assert [pictures._joined(parts, seen) for parts in bars] == [
        {"batch": 1000, "all else": 3},
        {"batch": 10, "gradients": 10},
    ]


def test_every_part_of_a_bar_has_its_look():
    from bench.memory.explaining.explain import RESERVED, Category

    plain = {category.value for category in RESERVED if category is not Category.ACTIVATIONS}
    assert plain < set(pictures._LOOKS)
    assert set(pictures._ORDER) == set(pictures._LOOKS) - {"saved activations"}


def test_a_panel_for_each_step_on_the_scale_of_the_card():
    figure = drawn(pictures.timeline, SMALL, LARGE, profile("DEQ4IP", task="mri"))
    panels = {axes.get_title(loc="center") or axes.get_title("left"): axes for axes in figure.axes if axes.axison}
    assert set(panels) == {"ct, DEQ4IP, batch 23", "ct, LU-DnCNN, batch 2", "mri, DEQ4IP, batch 23"}
    axes = panels["ct, LU-DnCNN, batch 2"]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"usable on the card", "most allocated", "backward begins"}
    areas = {area.get_label(): area.get_data().values for area in axes.patches}
    assert set(areas) == {"saved activations", "reserved, not in use", "reserved"}  # parameters: too thin to be seen
    np.testing.assert_allclose(areas["saved activations"], [3 / GiB, 16 + 3 / GiB, 3 / GiB])
    np.testing.assert_allclose(areas["reserved"], [16 + 3 / GiB] * 3)
    behind = {area.get_label(): area.get_zorder() for area in axes.patches}
    assert behind["reserved, not in use"] < behind["saved activations"]
    assert lines["usable on the card"].get_ydata()[0] == 24 - 500 / 1024
    assert (lines["most allocated"].get_xdata()[0], lines["backward begins"].get_xdata()[0]) == (4, 5)
    assert lines["most allocated"].get_ydata()[0] == pytest.approx(16)


def test_a_step_that_does_not_fit_says_so():
    record = profile("LU-DnCNN", 30 * GiB, fits=False)
    assert "1 does not fit" in drawn(pictures.timeline, record).axes[0].get_title("left")


def test_nothing_is_drawn_of_nothing():
    assert pictures.composition([]) is None
    assert pictures.timeline([]) is None
