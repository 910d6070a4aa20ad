"""How verdicts end a command: which level each has, the exit code and the sentence, and what CI systems are told."""

from xml.etree import ElementTree as ET

import pytest

from bench.commands.conclusion import conclude
from bench.errors import NotComparableError, RegressionError
from bench.regression.gate import Level, levels
from bench.regression.verdicts import Change, Outcome, Verdict

OK, WARNING, ERROR, FAILURE = Level


def verdict(outcome, *changes, reason=None):
    return Verdict("ct", outcome.name, "memory", outcome, reason, changes)


def change(outcome, before=4, after=4, name="largest_batch", of="8GB, high"):
    return Change(name, of, before, after, outcome)


WORSE, BETTER, SAME = (
    verdict(outcome, change(outcome, after=after))
    for outcome, after in ((Outcome.WORSE, 3), (Outcome.BETTER, 5), (Outcome.SAME, 4))
)
NEW, GONE, NOT_COMPARABLE = map(verdict, (Outcome.NEW, Outcome.GONE, Outcome.NOT_COMPARABLE))
FAILS_NOW = verdict(Outcome.WORSE, reason="fails now: broken")
FAILED_BEFORE = verdict(Outcome.BETTER, reason="failed before: broken")
LOST = "largest_batch (9GB, high) is gone"
IN_PART = verdict(Outcome.SAME, change(Outcome.SAME), change(Outcome.GONE, after=None, of="9GB, high"), reason=LOST)
BETTER_IN_PART = verdict(
    Outcome.BETTER, change(Outcome.BETTER, after=5), change(Outcome.GONE, after=None, of="9GB, high"), reason=LOST
)
NOT_IN_WHOLE = "cannot be compared, or not in whole: --allow-incomparable accepts it once; the first:"
ONE_WORSE = "cells worse; the first: WORSE on ct, memory: worse, largest batch (8GB, high) 4, now 3"
NOT_BETTER = "better and none worse: --allow-improvement accepts it once; the first:"


@pytest.mark.parametrize(
    ("verdicts", "options", "expected", "sentence"),
    [
        ([SAME, NEW], "", [OK, OK], None),
        ([SAME, GONE], "", [OK, ERROR], f"1 of 2 cells {NOT_IN_WHOLE} GONE on ct, memory: gone"),
        (
            [NEW, NOT_COMPARABLE, SAME, GONE],
            "",
            [OK, ERROR, OK, ERROR],
            f"2 of 3 cells {NOT_IN_WHOLE} NOT_COMPARABLE on ct, memory: not comparable",
        ),
        ([IN_PART], "", [ERROR], f"1 of 1 cells {NOT_IN_WHOLE} SAME on ct, memory: same in part, not compared: {LOST}"),
        ([SAME, GONE, NOT_COMPARABLE, IN_PART], "incomparable", [OK, WARNING, WARNING, WARNING], None),
        ([GONE, SAME, WORSE], "", [ERROR, OK, FAILURE], f"1 of 3 {ONE_WORSE}"),
        (
            [GONE, WORSE],
            "incomparable",
            [WARNING, FAILURE],
            f"1 of 2 {ONE_WORSE}",
        ),
        (
            [GONE, BETTER],
            "",
            [ERROR, FAILURE],
            f"1 of 2 cells {NOT_BETTER} BETTER on ct, memory: better, largest batch (8GB, high) 4, now 5",
        ),
        ([BETTER, WORSE], "", [FAILURE] * 2, f"1 of 2 {ONE_WORSE}"),
        ([BETTER, SAME], "improvement", [OK, OK], None),
        ([GONE, BETTER], "improvement", [ERROR, OK], f"1 of 2 cells {NOT_IN_WHOLE} GONE on ct, memory: gone"),
        ([GONE, BETTER], "improvement, incomparable", [WARNING, OK], None),
        (
            [BETTER_IN_PART],
            "improvement",
            [ERROR],
            f"1 of 1 cells {NOT_IN_WHOLE} BETTER on ct, memory: better, largest batch (8GB, high) 4, now 5, "
            f"not compared: {LOST}",
        ),
        ([GONE, NEW], "", [ERROR, ERROR], "none of 1 cells can be compared; the first: GONE on ct, memory: gone"),
        (
            [GONE, NOT_COMPARABLE],
            "improvement, incomparable",
            [ERROR, ERROR],
            "none of 2 cells can be compared; the first: NOT_COMPARABLE on ct, memory: not comparable",
        ),
        ([NEW, NEW], "incomparable", [ERROR] * 2, "none of 2 cells can be compared; the first: NEW on ct, memory: new"),
        *(
            (
                [FAILED_BEFORE, GONE],
                options,
                [ERROR, ERROR],
                "none of 2 cells can be compared; the first: BETTER on ct, memory: better, failed before: broken",
            )
            for options in ("", "improvement", "incomparable", "improvement, incomparable")
        ),
        ([FAILED_BEFORE, SAME], "improvement", [OK, OK], None),
        (
            [FAILED_BEFORE, SAME],
            "incomparable",
            [FAILURE, OK],
            f"1 of 2 cells {NOT_BETTER} BETTER on ct, memory: better, failed before: broken",
        ),
        *(
            (
                [FAILS_NOW, GONE],
                options,
                [FAILURE, ERROR],
                "1 of 2 cells worse; the first: WORSE on ct, memory: worse, fails now: broken",
            )
            for options in ("", "improvement, incomparable")
        ),
    ],
)
def test_levels_and_the_sentence(verdicts, options, expected, sentence, tmp_path, monkeypatch, capsys):
    """Exit code and reports agree: something failed for CI systems if and only if the command does."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    allowed = {f"allow_{name}": name in options for name in ("improvement", "incomparable")}
    assert levels(verdicts, **allowed) == expected
    raised = None
    try:
        conclude(verdicts, title="bench check", json=False, junit=tmp_path / "check.xml", **allowed)
    except (RegressionError, NotComparableError) as error:
        raised = error
    assert str(raised or "") == (sentence or "")
    worst = 1 if FAILURE in expected else 4 if ERROR in expected else 0
    assert (raised.exit_code if raised else 0) == worst
    told = (tmp_path / "summary.md").read_text().split("```")
    assert told[1:2] == ([f"\n{sentence}\n"] if sentence else [])
    annotated = [line.split()[0].removeprefix("::") for line in capsys.readouterr().err.splitlines()]
    assert annotated == ["warning" if level is WARNING else "error" for level in expected if level is not OK]
    tags = [next((result.tag for result in case), "") for case in ET.parse(tmp_path / "check.xml").iter("testcase")]
    assert [tag if tag in ("failure", "error") else "" for tag in tags] == [
        level.value if level in (FAILURE, ERROR) else "" for level in expected
    ]


def test_how_to_renew_is_said_where_it_is_known():
    said = {"title": "", "json": False, "junit": None, "allow_improvement": False, "renewal": "renew"}
    for verdicts, words in (
        ([BETTER], "better and none worse: renew, --allow-improvement accepts it once"),
        ([SAME, GONE], "not in whole: renew, --allow-incomparable accepts it once"),
        ([GONE], "none of 1 cells can be compared: renew; the first"),
    ):
        with pytest.raises((RegressionError, NotComparableError), match=words):
            conclude(verdicts, allow_incomparable=False, **said)
