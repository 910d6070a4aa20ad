"""Table 3 with strategies as rows, from records that are written by hand."""

import pytest
from handmade import memory, timing

from bench.report.tables import strategies, tables
from bench.units import MiB


def timed(architecture, seconds, bias=None):
    made = timing(architecture, seconds, 1.0, batch=4)
    return made.model_copy(update={"timing": made.timing.model_copy(update={"gradient_bias": bias})})


RECORDS = [
    memory("LU-DnCNN", 100 * MiB),
    memory("LUSER-SW", 100 * MiB),
    memory("LUSER-SW + recomputed", 50 * MiB),
    memory("LUSER-SW + jacobian-free", 90 * MiB),
    timed("LUSER-SW", 2.0),
    timed("LUSER-SW + recomputed", 2.5, 3e-16),
    timed("LUSER-SW + jacobian-free", 1.0, 0.0441),
]


def arranged():
    cards = [card.card for card in RECORDS[0].memory.cards]
    return strategies.arranged(strategies.tidy(RECORDS, cards))


def test_each_strategy_is_a_row_beside_plain():
    table = arranged()
    assert list(table["strategy"]) == ["plain", "recomputed", "jacobian-free"]
    assert list(table["architecture"]) == ["LUSER-SW", "", ""]  # LU-DnCNN has no strategy
    assert list(table["gradient"]) == ["exact", "exact", "0.044 off"]
    assert list(table["time"]) == ["1.00", "1.25", "0.50"]


def test_without_timing_nothing_is_said_of_gradients_and_time():
    cards = [card.card for card in RECORDS[0].memory.cards]
    table = strategies.arranged(strategies.tidy(RECORDS[:4], cards))
    assert list(table["gradient"]) == ["exact", "", ""]
    assert list(table["time"]) == ["", "", ""]


def test_other_tables_show_the_plain_cells_alone():
    made = {table.name: table for table in tables(RECORDS, ["table3", "strategies", "timing"])}
    assert set(made["table3"].tidy["architecture"]) == {"LU-DnCNN", "LUSER-SW"}
    assert set(made["timing"].tidy["architecture"]) == {"LUSER-SW"}
    assert len(made["strategies"].arranged) == 3


@pytest.mark.parametrize("bias", [1e-8, 1e-10])
def test_rounding_is_exact(bias):
    records = [RECORDS[1], RECORDS[2], timed("LUSER-SW", 1.0), timed("LUSER-SW + recomputed", 1.0, bias)]
    cards = [card.card for card in RECORDS[0].memory.cards]
    text = strategies.arranged(strategies.tidy(records, cards))["gradient"].iloc[1]
    assert text == ("exact" if bias < 1e-9 else "1e-08 off")
