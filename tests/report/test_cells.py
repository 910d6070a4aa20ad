import pytest

from bench.report.cells import best, is_numeric, leading_number, one_line


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7 / 6 / 1", 7),
        ("558,580", 558580),
        ("0.351 [0.35, 0.361]", 0.351),
        ("-1.5e-3", -0.0015),
        ("4 + 5", 4),
        ("12", 12),
        ("8GB", None),
        ("2.13.0+cpu", None),
        ("2026-01-02T03:04:05", None),
        ("3x48x48", None),
        ("- / - / 2", None),
        ("failed", None),
        ("", None),
    ],
)
def test_the_number_that_a_cell_begins_with(text, number):
    assert leading_number(text) == number


def test_a_column_is_numeric_when_something_in_it_is():
    assert is_numeric(["", "failed", "1 / 1 /"])
    assert not is_numeric(["parameters", "8GB", "10GB", ""])


def test_the_best_of_a_comparison():
    assert best(["7 / 6", "52 / 52", "failed", "-"], "most") == [False, True, False, False]
    assert best(["10", "9.5", "9.5"], "least") == [False, True, True]


@pytest.mark.parametrize("texts", [["3", "3"], ["3", "failed"], ["", "-"], []])
def test_there_is_no_best_without_a_choice(texts):
    assert not any(best(texts, "most"))


def test_text_on_one_line_without_control_characters():
    assert one_line("a\n b\tc\x1b[31m\x00") == "a b c\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
