"""Verdicts as tables, JUnit XML and GitHub's annotations, read back by other means than they were written."""

import json
import re
import urllib.parse
from xml.etree import ElementTree as ET

import pytest

from bench.regression.gate import Level
from bench.regression.growth import Growth, Why
from bench.regression.verdicts import Change, Outcome, Verdict
from bench.report import verdicts as report
from bench.report.verdicts import github, junit

OK, WARNING, ERROR, FAILURE = Level
GROWN = Growth("saved activations", "net, relu", 0, 3 * 2**20, ("models/net.py:7 > models/layers.py:9",))
VERDICTS = [
    Verdict(
        "ct",
        "A <&> B",
        "memory",
        Outcome.WORSE,
        None,
        (
            Change("peak_bytes_per_image", "high", 1000, 1200, Outcome.WORSE),
            Change("largest_batch", "8GB, high", 4, 3, Outcome.WORSE),
            Change("peak_reserved_bytes", "8GB, high", 7000, 6000, Outcome.NOT_COMPARABLE, "other batch"),
        ),
        Why(4, (1000, 2000), (2**20, 4 * 2**20), (GROWN,)),
    ),
    Verdict("ct", "C", "timing", Outcome.BETTER, None, (Change("evaluation_seconds", "", 1.5, 1.0, Outcome.BETTER),)),
    Verdict("ct", "D", "memory", Outcome.SAME, None, (Change("parameters", "", 9, 9, Outcome.SAME),)),
    Verdict("mri", "A", "memory", Outcome.NEW),
    Verdict("mri", "C", "memory", Outcome.GONE),
    Verdict("mri", "D", "memory", Outcome.NOT_COMPARABLE, "torch: 100%, now a|<b> \x00"),
    Verdict(
        "mri",
        "E",
        "memory",
        Outcome.SAME,
        "parameters is gone",
        (
            Change("largest_batch", "8GB, high", 4, 4, Outcome.SAME),
            Change("parameters", "", 9, None, Outcome.GONE, "parameters is gone"),
        ),
    ),
]
STRICT = [FAILURE, FAILURE, OK, OK, ERROR, ERROR, ERROR]
LENIENT = [FAILURE, OK, OK, OK, WARNING, WARNING, WARNING]


def test_the_tables():
    table = report.table(VERDICTS)
    words = ["worse", "better", "same", "new", "gone", "not comparable", "same in part"]
    assert table["verdict"].tolist() == words
    numbers = table[["what", "before", "now", "others"]]
    assert numbers.loc[0].tolist() == ["largest batch (8GB, high)", "4", "3", "1 worse"]
    assert numbers.loc[1].tolist() == ["evaluation seconds", "1.5", "1", ""]
    assert numbers.loc[5].tolist() == [VERDICTS[5].reason, "", "", ""]
    assert numbers.loc[6].tolist() == ["not compared: parameters is gone", "", "", ""]
    why = report.why_table(VERDICTS)
    assert why.iloc[0].tolist()[2:] == [
        *("saved activations", "net, relu", "models/net.py:7 > models/layers.py:9"),
        *("0 B", "3.00 MiB", "+3.00 MiB"),
    ]
    assert report.why_table(VERDICTS[1:]) is None
    tally = "7 cells: 1 worse, 1 better, 1 same, 1 same in part, 1 new, 1 gone, 1 not comparable."
    assert report.caption(VERDICTS) == report.caption(VERDICTS[::-1]) == tally


def test_sentences():
    assert report.sentence(VERDICTS[0]) == (
        "A <&> B on ct, memory: worse, largest batch (8GB, high) 4, now 3 (others: 1 worse); saved activations "
        "of net, relu at models/net.py:7 > models/layers.py:9: +3.00 MiB at batch 4"
    )
    assert report.sentence(VERDICTS[1]) == "C on ct, timing: better, evaluation seconds 1.5, now 1"
    assert report.sentence(VERDICTS[6]) == "E on mri, memory: same in part, not compared: parameters is gone"


def test_json_is_plain():
    told = json.loads(json.dumps([report.as_dict(verdict) for verdict in VERDICTS]))
    assert told[0]["outcome"] == "worse"
    assert told[0]["why"]["growths"][0]["after_bytes"] == 3 * 2**20
    assert told[0]["changes"][1] == {
        **{"name": "largest_batch", "of": "8GB, high", "before": 4, "after": 3},
        **{"outcome": "worse", "reason": None},
    }
    assert told[2]["why"] is None


@pytest.mark.parametrize(("levels", "results"), [(STRICT, (2, 3, 1)), (LENIENT, (1, 0, 3))])
def test_junit_has_one_case_per_cell(levels, results):
    """As the schema that CI systems read has it: counts, and at most one result in a case."""
    root = ET.fromstring(junit.to_xml(VERDICTS, levels, "bench check").encode())
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    assert {case.tag for case in suite} == {"testcase"}
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 7} | dict(zip(("failures", "errors", "skipped"), results, strict=True))
    assert len(suite) == 7
    assert tuple(len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")) == results
    assert all(len(case) <= 1 for case in suite)
    assert all(case.get("classname") and case.get("name") for case in suite)
    assert len({(case.get("classname"), case.get("name")) for case in suite}) == 7
    first = suite[0]
    assert (first.get("classname"), first.get("name")) == ("memory.ct", "A <&> B")
    assert first.find("failure").get("message") == report.sentence(VERDICTS[0])
    assert "net, relu: 0 -> 3145728 bytes (models/net.py:7 > models/layers.py:9)" in first.find("failure").text


def test_junit_says_why_there_is_no_comparison():
    suite = ET.fromstring(junit.to_xml(VERDICTS, STRICT, "bench check").encode())[0]
    errors = [suite[place].find("error") for place in (4, 5, 6)]
    assert [error.get("type") for error in errors] == ["gone", "not comparable", "same in part"]
    assert [error.text or "" for error in errors] == [
        "",
        "torch: 100%, now a|<b> ",
        "not compared: parameters is gone",
    ]
    assert errors[2].get("message") == report.sentence(VERDICTS[6])


COMMAND = re.compile(r"::(?P<level>error|warning) (?P<properties>[^\n:]*)::(?P<message>[^\n]*)")


@pytest.mark.parametrize(("levels", "places"), [(STRICT, (0, 1, 4, 5, 6)), (LENIENT, (0, 4, 5, 6))])
def test_annotations_as_github_reads_them(levels, places):
    told = []
    for line in github.workflow_commands(VERDICTS, levels, "bench check"):
        command = COMMAND.fullmatch(line)
        properties = dict(pair.split("=", 1) for pair in command["properties"].split(","))
        unescaped = {key: urllib.parse.unquote(value) for key, value in properties.items()}
        told.append((command["level"], unescaped, urllib.parse.unquote(command["message"])))
    assert [level for level, _, _ in told] == ["warning" if levels[place] is WARNING else "error" for place in places]
    assert told[0][1] == {"file": "models/layers.py", "line": "9", "title": "bench check: A <&> B on ct worse"}
    assert told[-1][1] == {"title": "bench check: E on mri same in part"}
    assert [message for *_, message in told] == [report.sentence(VERDICTS[place]) for place in places]


def test_the_step_summary_is_markdown():
    lines = github.summary(VERDICTS, "bench check").splitlines()
    assert lines[0] == "## bench check"
    rows = [line for line in lines if line.startswith("| ")]
    assert r"now a\|\<b>" in rows[6]
    rows[6] = rows[6].replace(r"\|", "")
    assert len(rows) == 1 + 7 + 1 + 1
    assert len({row.count("|") for row in rows[:8]}) == 1
