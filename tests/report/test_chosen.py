from handmade import card, memory, record, timing

from bench.report.chosen import joined, one_per_cell
from bench.report.tables import tables
from bench.units import GiB, MiB

LATER = "2026-02-01T00:00:00+00:00"


def cards(result):
    return [each.card for each in result.memory.cards]


def test_records_stand_in_the_papers_order_and_others_after_them():
    given = [
        timing(architecture, 1.0, 1.0, task=task)
        for architecture, task in [("Zebra", "ct"), ("LUSER-SW", "ct"), ("DEQ4IP", "ct"), ("DEQ4IP", "deblurring")]
    ]
    given += [timing("DEQ4IP", 1.0, 1.0, task=task) for task in ("zoo", "mri-8x", "mri-4x")]
    assert [(each.task, each.architecture) for each in joined(given)] == [
        ("deblurring", "DEQ4IP"),
        ("ct", "DEQ4IP"),
        ("ct", "LUSER-SW"),
        ("ct", "Zebra"),
        ("mri-4x", "DEQ4IP"),
        ("mri-8x", "DEQ4IP"),
        ("zoo", "DEQ4IP"),
    ]


def test_the_cards_of_one_cell_measured_in_two_runs_are_joined():
    old, new = memory("DEQ4IP", 100 * MiB), memory("DEQ4IP", 100 * MiB, cards=("10GB",), created=LATER)
    for given in ([old, new], [new, old]):
        (both,) = joined(given)
        assert cards(both) == ["8GB", "24GB", "10GB"]


def test_of_the_same_card_the_newer_answer_counts():
    (both,) = joined([memory("DEQ4IP", 100 * MiB), memory("DEQ4IP", 200 * MiB, created=LATER)])
    assert both.card("8GB") == card("8GB", 8 * GiB, 200 * MiB)


def test_answers_of_other_sources_or_versions_are_not_mixed():
    old, new = memory("DEQ4IP", 100 * MiB), memory("DEQ4IP", 100 * MiB, cards=("10GB",), created=LATER, key="other")
    assert cards(*joined([old, new])) == ["10GB"]


def test_a_failure_does_not_hide_an_earlier_success_of_the_same_key():
    good, bad = timing("DEQ4IP", 1.0, 1.0), record("timing", "DEQ4IP", status="failed", reason="x", created=LATER)
    assert joined([good, bad]) == [good]


def test_table_3_shows_one_setting_of_a_cell_and_says_what_it_leaves_out():
    old, new = memory("DEQ4IP", 100 * MiB), memory("DEQ4IP", 200 * MiB, loss="auxiliary", created=LATER)
    assert one_per_cell([old, new], "memory") == ([new], 1)
    (table,) = tables([old, new], ["table3"])
    assert table.caption.endswith("Not shown: 1 older records of these cells, with other settings.")
    assert len(table.tidy) == 2  # cards
