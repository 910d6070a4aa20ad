"""Tables in terminals of 60, 80 and 120 columns: no name and no number is cut, no line is too long."""

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.config import load
from bench.records.store import read_records
from bench.regression.measured import Measured, Quantity
from bench.regression.verdicts import compare
from bench.report.tables import TABLES, tables
from bench.report.terminal.layout import LEAST, drawn
from bench.report.verdicts import table

WIDTHS = (60, 80, 120)
DEMO = Path(__file__).parents[3] / "results/demo"


@pytest.fixture(scope="module")
def made():
    return {table.name: table.arranged for table in tables(read_records(DEMO))}


def words_of(table):
    heading = table.columns[0]  # which a table without room for it leaves out: its groups are headings
    texts = [
        *table[heading],
        *(text for name in table.columns[1:] if any(table[name]) for text in [name, *table[name]]),
    ]
    return {word for text in texts for word in text.split()}


def left_out(text):
    note = re.search(r"\(not in \d+ columns: (.*)\)", " ".join(text.split("\n")))
    return note[1].split(", ") if note else []


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", [name for name in TABLES if name != "strategies"])  # the demo has none
def test_every_name_and_number_is_whole(made, name, columns):
    text = drawn(made[name], LEAST.get(name, ()), columns)
    gone = left_out(text)
    assert set(gone) <= set(LEAST.get(name, ()))
    assert words_of(made[name].drop(columns=gone)) <= set(text.split())
    assert max(map(len, text.splitlines())) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_times_of_two_architectures_are_told_apart(made, columns):
    text = drawn(made["timing"], LEAST["timing"], columns)
    assert text.count("LUSER-SW") == text.count("LUSER-DW") == 3  # once for each task
    times = made["timing"]["training step, s"]
    assert len(times) == 12 and all(time in text for time in times)


def test_columns_go_one_by_one_and_only_as_many_as_must():
    table = pd.DataFrame({"name": ["a" * 20], "module": ["m" * 20], "operation": ["o" * 20], "line": ["b.py:12"]})
    least = ("operation", "module", "absent")
    assert left_out(drawn(table, least, 73)) == []  # 20 + 20 + 20 + 7, and three gaps of two
    assert left_out(drawn(table, least, 72)) == ["operation"]
    assert left_out(drawn(table, least, 51)) == ["operation"]
    assert left_out(drawn(table, least, 50)) == ["module", "operation"]
    assert drawn(table, least, 28) == (
        f"name\n  {'a' * 20}\nmodule\n  {'m' * 20}\noperation\n  {'o' * 20}\nline       b.py:12"
    )  # on its side, and whole


def test_a_group_without_room_for_its_name_has_it_above():
    table = pd.DataFrame({"task": ["deblurring", "", "ct"], "n": ["1,000,000", "2", "3"]})
    assert drawn(table, (), 12) == ("        n\n---------\ndeblurring\n1,000,000\n        2\n\nct\n        3")


def test_on_its_side_a_group_is_named_in_each_row():
    table = pd.DataFrame({"task": ["ct", ""], "first": ["1,234,567", "2"], "second": ["7,654,321", ""]})
    assert drawn(table, (), 17) == ("task    ct\nfirst   1,234,567\nsecond  7,654,321\n\ntask    ct\nfirst   2")


def test_text_breaks_at_spaces_alone():
    line = "models/luser_block.py:73 > models/layers.py:113"
    text = drawn(pd.DataFrame({"category": ["saved activations"], "line": [line], "MiB": ["1,097.50"]}), (), 60)
    assert text.splitlines()[2:] == [
        "saved activations  models/luser_block.py:73 >       1,097.50",
        "                   models/layers.py:113",
    ]
    assert "models/luser_block.py:73" in drawn(pd.DataFrame({"line": [line]}), (), 10)  # longer than the terminal


@pytest.mark.parametrize("columns", WIDTHS)
def test_verdicts_are_whole(columns):
    cells = [Measured(task=task, architecture=name, stage="memory", conditions={}) for task, name in CELLS]
    batch = {"name": "largest_batch", "of": "RTX 3060 12GB, exact", "at": {"card": "RTX 3060 12GB"}}
    before, after = (
        [cell.model_copy(update={"quantities": (Quantity(value=value, **batch),)}) for cell in cells]
        for value in (1_234_567, 1_034_567)
    )
    shown = table(compare(before, after, load(None).check))
    assert list(shown["verdict"]) == ["worse", "worse"]
    text = drawn(shown, LEAST["verdicts"], columns)
    assert words_of(shown.drop(columns=left_out(text))) <= set(text.split())
    assert max(map(len, text.splitlines())) <= columns


CELLS = [("deblurring", "LUSER-SW"), ("deblurring", "LUSER-DW")]
