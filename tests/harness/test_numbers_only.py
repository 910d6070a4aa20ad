"""The gate judges numbers only: sets without any, and numbers that are none, from the outside."""

import json
from xml.etree import ElementTree as ET

import handmade
import pytest
from handmade import accuracy, diverged, failed, profile, timing, training

INF, NAN = float("inf"), float("nan")
FAILED = failed("timing", "LU-DnCNN", "ct")
MEMORY = {"memory": {"engine": "simulated", "steps": 2, "alloc_conf": ""}}
ALLOWED = [(), ("--allow-improvement",)]


def stored(folder, *records):
    with_memory = [each.model_copy(update={"settings": each.settings | MEMORY}) for each in records]
    return handmade.stored(folder, *with_memory)


def edited(path, old, new):
    """A record in which somebody wrote something else."""
    (file,) = path.glob("*.json")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("options", ALLOWED)
@pytest.mark.parametrize(
    ("before", "after", "tag"),
    [
        ([FAILED], [FAILED], "error"),
        ([FAILED], [timing("LU-DnCNN", 1.0, 1.0)], "error"),
        ([FAILED], [timing("DEQ4IP", 1.0, 1.0)], "error"),
        ([accuracy("LU-DnCNN", diverged())], [accuracy("LU-DnCNN", diverged())], "error"),
        ([profile("LU-DnCNN")], [timing("LU-DnCNN", 1.0, 1.0)], None),
        ([timing("LU-DnCNN", 1.0, 1.0)], [profile("LU-DnCNN")], None),
        ([profile("LU-DnCNN")], [profile("LU-DnCNN")], None),
    ],
)
def test_no_number_is_4_everywhere(bench, tmp_path, monkeypatch, before, after, tag, options):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    stored(tmp_path / "a", *before)
    stored(tmp_path / "b", *after)
    result = bench("compare", "a", "b", "--junit", "check.xml", *options)
    assert result.returncode == 4, result.stderr
    if tag is None:  # nothing to report on
        assert result.stderr.startswith("bench: nothing to compare in ") and result.stderr.count("\n") == 1
        return
    *annotations, sentence = result.stderr.splitlines()
    assert (
        sentence.startswith("bench: none of ")
        and sentence.removeprefix("bench: ") in (tmp_path / "summary.md").read_text().splitlines()
    )
    assert annotations and all(line.startswith("::error ") for line in annotations)
    cases = list(ET.parse(tmp_path / "check.xml").iter("testcase"))
    assert cases and all(case.find(tag) is not None for case in cases)


@pytest.mark.parametrize(("first", "code"), [("failed", 1), ("ok", 4)])
def test_an_improvement_is_accepted_where_something_was_compared(bench, tmp_path, first, code):
    """A cell that failed before and works now has no number to compare; beside one that has, it is better."""
    same = [timing("DEQ4IP", 1.0, 1.0)] if first == "failed" else []
    stored(tmp_path / "a", FAILED, *same)
    stored(tmp_path / "b", timing("LU-DnCNN", 1.0, 1.0), *same)
    assert bench("compare", "a", "b").returncode == code
    assert bench("compare", "a", "b", "--allow-improvement").returncode == (0 if same else 4)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    "bad", ["NaN", "Infinity", "-Infinity", '"NaN"', "0.0", "-1.0", "null", "true", '"1.0"', "1e999"]
)
def test_seconds_that_are_none_are_damage(bench, tmp_path, side, bad):
    for name in ("a", "b"):
        stored(tmp_path / name, timing("LU-DnCNN", 1.5, 1.0))
    edited(tmp_path / side, '"training_step_seconds":[1.5', f'"training_step_seconds":[{bad}')
    for options in ALLOWED:
        result = bench("compare", "a", "b", *options)
        assert result.returncode in (2, 4), result.stdout
        assert "LU-DnCNN--timing--" in result.stderr and "damaged" in result.stderr
        assert result.stdout == ""


def test_a_record_without_what_it_measured_is_damage(bench, tmp_path):
    made = timing("LU-DnCNN", 1.0, 1.0)
    stored(tmp_path / "a", made)
    stored(tmp_path / "b", made.model_copy(update={"timing": None}))
    for arguments in (("compare", "a", "b"), ("compare", "b", "a")):
        result = bench(*arguments)
        assert result.returncode in (2, 4) and "LU-DnCNN--timing--" in result.stderr
        assert "expected timing" in result.stderr


@pytest.mark.parametrize("bad", ["NaN", "null", "-Infinity", '"NaN"', "true", '"30"', "1e308"])
def test_a_psnr_that_is_none_is_damage(bench, tmp_path, bad):
    """`null` is what an infinite PSNR was once written as."""
    for name in ("a", "b"):
        stored(tmp_path / name, accuracy("LU-DnCNN", training((30.0, 32.0))))
    edited(tmp_path / "b", '"psnr_db":[30.0', f'"psnr_db":[{bad}')
    result = bench("compare", "a", "b", "--allow-improvement")
    assert result.returncode in (2, 4) and "LU-DnCNN--accuracy--" in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ((INF, 30.0), (INF, 30.0), 0, "1 cell: 1 same."),
        ((30.0, 30.0), (INF, 30.0), 1, "psnr db 30, now 30 (infinite in 1/2 of the images, before in 0)"),
        ((INF, INF), (30.0, 30.0), 1, "psnr db inf, now 30 (infinite in 0 of the images, before in 1)"),
        ((30.0, 30.0), (INF, INF), 1, "psnr db 30, now inf (infinite in 1 of the images, before in 0)"),
    ],
)
def test_an_infinite_psnr_is_read_and_judged(bench, tmp_path, before, after, code, words):
    stored(tmp_path / "a", accuracy("LU-DnCNN", training(before)))
    stored(tmp_path / "b", accuracy("LU-DnCNN", training(after)))
    result = bench("compare", "a", "b", "--allow-improvement")
    assert result.returncode == code
    assert words in result.stdout + result.stderr
    printed = bench("compare", "a", "b", "--json").stdout

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    (verdict,) = json.loads(printed, parse_constant=refuse)["verdicts"]
    assert verdict["outcome"] == ("same" if code == 0 else "worse")


BASELINE = {
    "format": 1,
    "cells": [
        {
            "task": "ct",
            "architecture": "LU-DnCNN",
            "stage": "memory",
            "conditions": {},
            "quantities": [{"name": "largest_batch", "of": "8GB, high", "value": 4}],
        }
    ],
}


@pytest.mark.parametrize(
    ("quantities", "words"),
    [
        ([{"name": "largest_batch", "value": value}], "largest_batch" if value == [4.0] else "value")
        for value in (NAN, INF, True, "4", None, 4.5, -1, 10**40, [4.0])
    ]
    + [
        ([{"name": "training_step_seconds", "value": value}], "value" if value != 1 else "training_step_seconds")
        for value in ([NAN], [True], [], 1)
    ]
    + [([{"name": "evaluation_seconds", "value": [1.0, value]}], "evaluation_seconds") for value in (INF, 0.0, -1.0)]
    + [([{"name": "parameters", "value": 4}] * 2, "parameters of LU-DnCNN on ct more than once")]
    + [([{"name": "largest_batch", "of": "8GB, high", "value": n} for n in (4, 5)], "largest_batch (8GB, high) of")],
)
def test_a_baseline_with_numbers_that_are_none(bench, tmp_path, quantities, words):
    cell = BASELINE["cells"][0]
    (tmp_path / "good.json").write_text(json.dumps(BASELINE))
    (tmp_path / "bad.json").write_text(json.dumps(BASELINE | {"cells": [cell | {"quantities": quantities}]}))
    for arguments in (("compare", "good.json", "bad.json"), ("compare", "bad.json", "good.json")):
        result = bench(*arguments)
        assert (result.returncode, result.stdout) == (2, ""), result.stdout
        assert result.stderr.startswith("bench: bad.json is no baseline (") and result.stderr.count("\n") == 1
        assert words in result.stderr


@pytest.mark.parametrize("options", [(), ("--allow-incomparable",), ("--allow-incomparable", "--allow-improvement")])
@pytest.mark.parametrize("failure", [None, "broken"])
def test_a_baseline_without_numbers(bench, tmp_path, options, failure):
    """Whatever is measured now: there is nothing to hold it against."""
    cell = BASELINE["cells"][0] | {"quantities": [], "failure": failure}
    (tmp_path / "empty.json").write_text(json.dumps(BASELINE | {"cells": [cell]}))
    assert bench("compare", "empty.json", "empty.json").returncode == 4
    result = bench("check", "--baseline", "empty.json", "--jobs", "1", "--junit", "check.xml", *options)
    assert result.returncode == 4
    assert all(len(case) == 1 and case[0].tag == "error" for case in ET.parse(tmp_path / "check.xml").iter("testcase"))
