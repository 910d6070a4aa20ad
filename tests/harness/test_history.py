"""bench history: sets made by hand, in a table and in the formats of others."""

import json
import subprocess

import pytest

from bench.regression import baseline
from bench.regression.measured import Measured, Quantity

AT = {"card": "8GB", "total_bytes": 8, "context_bytes": 1}


def cells(exact, high, low, seconds=(0.5, 0.25, 1.0)):
    memory = [
        Quantity(name="largest_batch", of="8GB, high", value=high, at=AT),
        Quantity(name="largest_batch", of="8GB, low", value=low, at=AT),
        *([Quantity(name="largest_batch", of="RTX 3080, exact", value=exact, at=AT)] if exact else []),
        Quantity(name="peak_bytes_per_image", of="high", value=3000),
        Quantity(name="peak_bytes_per_image", of="low", value=1000),
        Quantity(name="parameters", value=7),
    ]
    cell = {"task": "ct", "architecture": "LUSER-SW", "conditions": {}}
    return (
        Measured(stage="memory", quantities=tuple(memory), **cell),
        Measured(stage="timing", quantities=(Quantity(name="training_step_seconds", value=seconds),), **cell),
    )


@pytest.fixture
def sets(tmp_path):
    for name, made in {"2026-09": cells(None, 5, 6), "2026-10": cells(12, 4, 6)}.items():
        (tmp_path / f"{name}.json").write_text(baseline.text(made))
    return "2026-09.json", "2026-10.json"


def test_the_table_has_a_column_for_each_set(bench, sets):
    done = bench("history", *sets)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    assert rows[0] == ["cell", "number", "2026-09", "2026-10"]
    assert rows[2:] == [
        ["LUSER-SW on ct", "largest batch (8GB)", "5", "4"],
        ["", "peak bytes per image", "3,000", "3,000"],
        ["", "training step seconds", "0.5", "0.5"],
        ["", "largest batch (RTX 3080)", "", "12"],
    ]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_narrow_terminal_keeps_the_newest(terminal, sets, columns):
    text = terminal(columns, "history", *sets)
    assert max(map(len, text.splitlines())) <= columns
    assert "2026-10" in text and "RTX 3080" in text and "LUSER-SW" in text


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_has_a_line_for_each_number(bench, sets, tmp_path, suffix):
    done = bench("history", *sets, "--picture", f"a.{suffix}")
    assert (done.returncode, done.stderr) == (0, "")
    picture = (tmp_path / f"a.{suffix}").read_bytes()
    if suffix == "svg":
        text = picture.decode()
        assert "LUSER-SW on ct: largest batch (8GB), from 5 to 4" in text
        assert "largest batch (RTX 3080), from 12 to 12" in text
    again = bench("history", *sets, "--picture", f"a.{suffix}")
    assert (again.returncode, again.stderr.count("give --force")) == (2, 1)


def test_sets_without_numbers_have_no_picture(bench, tmp_path):
    quantities = (Quantity(name="parameters", value=7),)
    cell = Measured(stage="memory", quantities=quantities, task="ct", architecture="LUSER-SW", conditions={})
    (tmp_path / "set.json").write_text(baseline.text((cell,)))
    done = bench("history", "set.json", "--picture", "a.png")
    assert done.returncode == 2
    assert "no number that a history shows" in done.stderr
    assert not (tmp_path / "a.png").exists()


def test_a_picture_of_no_format_is_refused_before_the_work(bench, sets):
    done = bench("history", *sets, "--picture", "a.gif")
    assert done.returncode == 2
    assert "a.gif, expected a name that ends with .png, .svg, .pdf" in done.stderr


def test_bencher_has_the_bounds(bench, sets):
    assert json.loads(bench("history", *sets, "--format", "bencher").stdout) == {
        "ct / LUSER-SW / 8GB": {"largest-batch": {"value": 4, "lower_value": 4, "upper_value": 6}},
        "ct / LUSER-SW / RTX 3080": {"largest-batch": {"value": 12}},
        "ct / LUSER-SW": {
            "peak-bytes-per-image": {"value": 3000, "lower_value": 1000, "upper_value": 3000},
            "training-step-seconds": {"value": 0.5},
        },
    }


def test_the_actions_tools_get_what_is_theirs(bench, sets):
    assert json.loads(bench("history", *sets, "--format", "bigger-is-better").stdout) == [
        {"name": "LUSER-SW on ct: largest batch (8GB)", "unit": "images", "value": 4, "range": "4 to 6"},
        {"name": "LUSER-SW on ct: largest batch (RTX 3080)", "unit": "images", "value": 12},
    ]
    assert json.loads(bench("history", *sets, "--format", "smaller-is-better").stdout) == [
        {"name": "LUSER-SW on ct: peak bytes per image", "unit": "bytes", "value": 3000, "range": "1000 to 3000"},
        {"name": "LUSER-SW on ct: training step seconds", "unit": "s", "value": 0.5},
    ]


def test_commits_of_a_baseline(bench, tmp_path):
    def git(*arguments):
        author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    for exact in (10, 11, 12):
        (tmp_path / "baseline.json").write_text(baseline.text(cells(exact, 4, 6)))
        git("add", "baseline.json")
        git("commit", "--quiet", "--message", str(exact))
    done = bench("history", "--commits", 2, "--baseline", "baseline.json")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "RTX 3080" in line]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["11", "12"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected folders or baselines, or --commits N: give one of them"),
        (("a", "--commits", 1), "expected folders or baselines, or --commits N: give one of them"),
        (("absent",), "there is no absent: "),
        (("--commits", 1), "--commits: git cannot read "),
    ],
)
def test_nothing_to_show(bench, arguments, sentence):
    done = bench("history", *arguments)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
