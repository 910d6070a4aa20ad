"""The cost of an operator: the line through the first point, and what is counted at every k."""

import csv
import io

import pytest

from tools.operator_cost import __main__ as tool

SERIES = tool.Series("N", "evaluation", 12, 0.002, {1: 0.124, 3: 0.171, 10: 0.34, 30: 0.8, 100: 2.6})


def test_the_line_takes_the_first_point_and_the_operator_alone():
    assert SERIES.network_seconds == pytest.approx(0.1)
    assert [SERIES.line(k) for k in (1, 10, 100)] == pytest.approx([0.124, 0.34, 2.5])
    (row,) = tool.rows([SERIES])
    assert row == ("N", "evaluation", "12", "2.000", "0.100", "0.124", "0.171", "0.340", "0.800", "2.600", "2.500")
    points = list(csv.DictReader(io.StringIO(tool.as_csv([SERIES]))))
    assert [point["k"] for point in points] == ["1", "3", "10", "30", "100"]
    assert (points[-1]["seconds"], points[-1]["line_seconds"]) == ("2.6", "2.5")


def test_a_network_applies_the_operator_as_often_whatever_it_costs(monkeypatch):
    """LU-DnCNN's six stages apply A and its adjoint once each; all but the first again in backward."""
    monkeypatch.setattr(tool, "TIMES", (1, 2))
    monkeypatch.setattr(tool, "REPEATS", 1)
    monkeypatch.setattr(tool, "APPLICATIONS", 2)
    found = list(tool.measured("LU-DnCNN", tool.networks()["LU-DnCNN"], batch=1))
    assert [(each.what, each.applications, set(each.seconds)) for each in found] == [
        ("evaluation", 12, {1, 2}),
        ("training step", 22, {1, 2}),
    ]
