import sys

import pandas as pd
import pytest

from bench.report.terminal import markdown, print_table, write_table


@pytest.fixture
def printed(monkeypatch, capsys):
    """What is printed where stdout is a terminal."""
    monkeypatch.setenv("COLUMNS", "100")

    def in_terminal(table, caption):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        print_table(table, caption)
        return capsys.readouterr().out

    return in_terminal


def test_brackets_are_text_in_a_terminal(printed):
    table = pd.DataFrame([{"task": "[red]ct[/blue]", "s": "0.5 [a, b]"}])
    out = printed(table, "median [quartiles]")
    assert "[red]ct[/blue]" in out and "0.5 [a, b]" in out and "median [quartiles]" in out


def test_groups_are_set_apart_and_numbers_right_aligned(printed):
    table = pd.DataFrame({"task": ["ct", "", "mri"], "method": ["LU", "DEQ4IP", "LU"], "n": ["5", "1,000", "7"]})
    assert printed(table, "Three.") == (
        "task  method      n\n"
        "----  ------  -----\n"
        "ct    LU          5\n"
        "      DEQ4IP  1,000\n"
        "\n"
        "mri   LU          7\n"
        "\n"
        "Three.\n"
    )


def test_a_missing_cell_is_empty(printed):
    table = pd.DataFrame([{"task": "ct", "s": "5"}, {"task": "mri"}])
    assert "nan" not in printed(table, "")
    assert "nan" not in markdown(table)


def test_a_table_is_written_as_markdown_and_csv(tmp_path):
    tidy = pd.DataFrame({"gain_db": [1.25, 10.0]})
    write_table("table2", pd.DataFrame({"method": ["A"], "": ["+1.25"]}), "Caption.", tidy, tmp_path)
    assert (
        tmp_path / "table2.md"
    ).read_text() == "| method   |       |\n|:---------|:------|\n| A        | +1.25 |\n\nCaption.\n"
    assert pd.read_csv(tmp_path / "table2.csv")["gain_db"].tolist() == [1.25, 10.0]
