"""The gate's table: what each verdict is, under each option, beside others and alone."""

import pytest

from bench.regression.gate import Level, levels
from bench.regression.verdicts import Change, Outcome, Verdict

OK, WARNING, ERROR, FAILURE = Level
WORSE, BETTER, SAME, NEW, GONE, NOT_COMPARABLE = Outcome


def verdict(outcome, *changes):
    return Verdict("ct", "LU-DnCNN", "memory", outcome, changes=changes)


def change(outcome):
    return Change("parameters", "", 1, 1, outcome)


WORSE_CELL, BETTER_CELL, SAME_CELL = (verdict(outcome, change(outcome)) for outcome in (WORSE, BETTER, SAME))
SAME_IN_PART = verdict(SAME, change(SAME), change(GONE))
BETTER_IN_PART = verdict(BETTER, change(BETTER), change(NOT_COMPARABLE))
EMPTY = [verdict(outcome) for outcome in (NEW, GONE, NOT_COMPARABLE)]
FAILS_NOW, FAILED_BEFORE = verdict(WORSE), verdict(BETTER)
BESIDE = [WORSE_CELL, BETTER_CELL, SAME_CELL, SAME_IN_PART, BETTER_IN_PART, *EMPTY, FAILS_NOW, FAILED_BEFORE]


@pytest.mark.parametrize(
    ("improvement", "incomparable", "expected"),
    [
        (False, False, [FAILURE, FAILURE, OK, ERROR, FAILURE, OK, ERROR, ERROR, FAILURE, FAILURE]),
        (False, True, [FAILURE, FAILURE, OK, WARNING, FAILURE, OK, WARNING, WARNING, FAILURE, FAILURE]),
        (True, False, [FAILURE, OK, OK, ERROR, ERROR, OK, ERROR, ERROR, FAILURE, OK]),
        (True, True, [FAILURE, OK, OK, WARNING, WARNING, OK, WARNING, WARNING, FAILURE, OK]),
    ],
)
def test_levels_where_some_number_was_compared(improvement, incomparable, expected):
    assert levels(BESIDE, allow_improvement=improvement, allow_incomparable=incomparable) == expected


@pytest.mark.parametrize("improvement", [False, True])
@pytest.mark.parametrize("incomparable", [False, True])
def test_where_no_number_was_compared_nothing_is_accepted(improvement, incomparable):
    """A cell that failed before and no longer does is no comparison either."""
    alone = [*EMPTY, FAILS_NOW, FAILED_BEFORE]
    found = levels(alone, allow_improvement=improvement, allow_incomparable=incomparable)
    assert found == [ERROR, ERROR, ERROR, FAILURE, ERROR]


def test_no_verdicts():
    assert levels([], allow_improvement=False, allow_incomparable=False) == []
