"""Figures that people have published: what the recording says is within 2 %, or listed as one that varies."""

import ast
from pathlib import Path

import pytest

from bench.memory import CARDS
from tools.any_step.published import FIGURES, MOST, OF_ONE_RUN, row, table

STEPS = Path(__file__).with_name("published.py")


def test_every_figure_is_of_a_step_and_a_card_that_there_are():
    steps = {each.name for each in ast.parse(STEPS.read_text()).body if isinstance(each, ast.FunctionDef)}
    assert {figure.step for figure in FIGURES} == {name for name in steps if not name.startswith("_")}
    assert {figure.card for figure in FIGURES} <= CARDS.keys()
    assert {figure.step for figure in FIGURES} >= OF_ONE_RUN


def test_the_table_has_a_line_for_each_figure():
    line = ["vgg16_bn, 128", "allocated", "17,733", "17,571", "-0.9%", "A100 40GB", "somewhere"]
    assert table([line]).splitlines()[2:] == [f"| {' | '.join(line)} |"]


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.step)
def test_what_was_published_is_recorded(figure):
    for package in ("timm", "torchvision", "transformers"):
        pytest.importorskip(package)
    difference = float(row(figure)[4].removesuffix("%")) / 100
    assert (abs(difference) <= MOST) == (figure.step not in OF_ONE_RUN)
