"""Colours: two palettes, each clear of its ground, and no colour in a picture that is of neither."""

import re

import matplotlib
import pytest
from handmade import ARCHITECTURES, accuracy, memory, points, profile, timing, training

from bench.records import CATEGORIES
from bench.report.plots import catalogue, palette, style
from bench.units import MiB

MEANT = [*palette.METHODS, *palette.MEMORY.values(), palette.CONTEXT, palette.NORMALISATIONS]
MEANT += [palette.OTHER_ACTIVATIONS, palette.NOTE, palette.LIMIT, palette.INK]


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_what_has_a_meaning_stands_out_from_its_ground(mode):
    ground = luminance(palette.GROUNDS[mode])
    for pair in MEANT:
        lighter, darker = sorted((luminance(pair[mode]), ground), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, pair[mode]


def test_every_method_and_every_category_has_a_colour_of_its_own():
    for mode in (0, 1):
        assert len({pair[mode] for pair in palette.METHODS}) == 8
        assert len({palette.MEMORY[category][mode] for category in CATEGORIES}) == len(CATEGORIES)


def test_the_style_file_has_the_methods_colours():
    with style.style():
        cycle = [each["color"] for each in matplotlib.rcParams["axes.prop_cycle"]]
    assert cycle == [light for light, _ in palette.METHODS]


def test_the_page_has_the_same_grounds(request):
    css = (request.config.rootpath / "bench/report/formats/page.css").read_text()
    assert re.search(r"--surface: light-dark\((#\w+), (#\w+)\)", css).groups() == palette.GROUNDS
    assert re.search(r"--ink: light-dark\(#\w+, (#\w+)\)", css)[1] == palette.INK[1]


def test_no_picture_has_a_colour_without_a_dark_one():
    curve = [point.model_copy(update={"validation_psnr_db": 30.0}) for point in points([1.0] * 5)]
    records = [
        *(memory(name, 400 * MiB) for name in ARCHITECTURES),
        profile("DEQ4IP"),
        *(timing(name, 1, 1, per_image=100 * MiB) for name in ARCHITECTURES),
        accuracy("initialisation", training()),
        *(accuracy(name, training(curve=curve)) for name in ARCHITECTURES),
    ]
    drawn = {name: catalogue.panels(name, records, None) for name in catalogue.PLOTS if name != "figure-2"}
    assert all(drawn.values())
    for panels in drawn.values():
        for svg in panels.values():
            both = palette.in_both(svg)
            assert "light-dark(#ffffff, #1c1f23)" in both
            assert not re.findall(r'(?:fill|stroke)(?:: |=")#\w+', both)
