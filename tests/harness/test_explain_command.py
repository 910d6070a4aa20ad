"""bench explain as a user types it: what it prints and writes, and its exact exit codes."""

import json
import pickle
import subprocess
import sys
from functools import partial

import pytest
import torch

SMALL = """
[suite]
gpu_caps = ["1GB"]

[model]
stages = 2

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 32, 32] }

[task.broken]
operator = "Radon"
options = { image_size = 8, detectors = 11, angles = 8 }
"""
CELL = ("--architecture", "LU-DnCNN", "--task", "blur")


@pytest.fixture
def explain(bench, tmp_path):
    """Run `bench explain ...` in a folder that holds nothing but this suite as bench.toml."""
    (tmp_path / "bench.toml").write_text(SMALL)
    return partial(bench, "explain")


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="the page was made with torch 2.13")
def test_the_page_shows_what_is_printed(bench, request, tmp_path):
    (tmp_path / "bench.toml").unlink()  # the default suite
    page = (request.config.rootpath / "docs/EXPLAIN.md").read_text()
    printed = bench("explain", "--architecture", "LU-DnCNN", "--task", "ct", "--gpu-cap", "24GB").stdout
    assert printed.strip() in page


def test_a_cell_in_parts_and_in_bfloat16(bench, tmp_path):
    """Recorded as a program for a GPU, and its batch is that of the whole step: 3 images are four parts of one."""
    solvers = "[model.solver]\nmax_evaluations = 5\n[model.backward_solver]\nmax_evaluations = 5\n"
    strategies = '[training]\nautocast = "bfloat16"\nactivations = "host"\nmicro_batches = 4\n'
    (tmp_path / "bench.toml").write_text(SMALL + solvers + strategies)
    parts = json.loads(
        bench("explain", "--architecture", "LUSER-SW", "--task", "blur", "--batch", "3", "--json").stdout
    )
    assert parts["batch"] == 4
    (tmp_path / "bench.toml").write_text(SMALL + solvers)
    whole = json.loads(
        bench("explain", "--architecture", "LUSER-SW", "--task", "blur", "--batch", "4", "--json").stdout
    )
    assert whole["batch"] == 4
    assert 0 < parts["peak_allocated_bytes"] < whole["peak_allocated_bytes"]


def test_a_strategy(bench, tmp_path):
    """Explained is what `bench run` of the same strategy measures, whatever strategies the suite has."""
    solvers = "[model.solver]\nmax_evaluations = 5\n[model.backward_solver]\nmax_evaluations = 5\n"
    several = SMALL.replace("[suite]", '[suite]\nstrategies = ["plain", "recomputed"]') + solvers
    (tmp_path / "bench.toml").write_text(several)
    cell = ("--architecture", "LUSER-SW", "--task", "blur")
    assert bench("run", *cell, "--stages", "memory").returncode == 0
    measured = {}
    for path in tmp_path.glob("results/runs/records/*.json"):
        record = json.loads(path.read_text())
        (card,) = record["memory"]["cards"]
        edge = card["edges"]["high"]
        measured[record["architecture"]] = edge["largest_batch"], edge["peak_allocated_bytes"]
    assert measured.keys() == {"LUSER-SW", "LUSER-SW + recomputed"}
    for name, strategy in (("LUSER-SW", ()), ("LUSER-SW + recomputed", ("--strategy", "Recomputed"))):
        told = json.loads(bench("explain", *cell, *strategy, "--json").stdout)
        assert told["architecture"] == name
        assert (told["batch"], told["peak_allocated_bytes"]) == measured[name]


def test_the_tables(explain):
    result = explain(*CELL, "--top", "3")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    sizes = {row[0]: int(row[1].replace(",", "")) for row in rows[2:16]}
    usable, card = sizes.pop("usable"), sizes.pop("card")
    assert sum(sizes.values()) == card == 2**30
    assert usable == card - sizes["context"]
    breakdown = rows[16:]
    assert breakdown[0] == ["category", "module", "line", "operation", "blocks", "MiB", "of the card"]
    assert len(breakdown) == 2 + 3
    assert breakdown[2][0] == "saved activations"
    assert breakdown[2][2].startswith("models/")
    assert "LU-DnCNN on blur, batch" in result.stdout


def test_json_picture_and_snapshot(explain, tmp_path):
    result = explain(
        *(*CELL, "--gpu", "rtx 3080", "--batch", "3", "--json"),
        *("--timeline", "step.png", "--snapshot", "step.pickle"),
    )
    assert result.returncode == 0
    assert result.stderr == "bench: wrote step.png\nbench: wrote step.pickle\n"
    told = json.loads(result.stdout)
    assert (told["architecture"], told["task"], told["batch"], told["fits"]) == ("LU-DnCNN", "blur", 3, True)
    assert sum(told["categories"].values()) == told["card"]["total_bytes"]
    assert sum(row["size_bytes"] for row in told["rows"]) < told["peak_allocated_bytes"]
    assert told["moment"]["step"] == 2
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    with open("step.pickle", "rb") as file:
        assert pickle.load(file)["segments"]


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_other_pictures(explain, tmp_path, suffix, magic):
    assert explain(*CELL, "--batch", "1", "--timeline", f"step{suffix}").returncode == 0
    assert (tmp_path / f"step{suffix}").read_bytes().startswith(magic)


def test_a_batch_that_does_not_fit(explain, tmp_path):
    result = explain(*CELL, "--batch", "5000", "--timeline", "step.png", "--snapshot", "step.pickle")
    assert result.returncode == 0
    last = result.stderr.splitlines()[-1]
    assert last.startswith("bench: batch 5000 does not fit: ")
    assert "(step 1, forward)" in last and "models/" in last
    assert "Where memory runs out: step 1, forward" in result.stdout
    with open("step.pickle", "rb") as file:
        assert pickle.load(file)["device_traces"][0][-1]["action"] == "oom"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--architecture", "nothing", "--task", "blur"), "unknown architecture 'nothing': known are LU-DnCNN"),
        (("--architecture", "DEQ4IP", "--task", "nothing"), "unknown task 'nothing': known are"),
        ((*CELL, "--batch", "0"), "--batch: got 0, expected at least 1 and at most 1,048,576"),
        ((*CELL, "--top", "-1"), "--top: got -1, expected at least 0 and at most 100,000"),
        ((*CELL, "--gpu-cap", "8GB", "--gpu", "H200"), "got both --gpu-cap and --gpu"),
        ((*CELL, "--gpu-cap", "8 apples"), "'8 apples' is not a memory size"),
        ((*CELL, "--gpu", "nothing"), "unknown card 'nothing'"),
        ((*CELL, "--timeline", "step.gif"), "--timeline step.gif has no known suffix: give one of .png, .svg, .pdf"),
        (
            (*CELL, "--snapshot", "missing/step.pickle"),
            "--snapshot: cannot write missing/step.pickle: there is no folder missing",
        ),
        (
            (*CELL, "--timeline", "missing/step.png"),
            "--timeline: cannot write missing/step.png: there is no folder missing",
        ),
        ((*CELL, "--config", "missing.toml"), "no configuration file at missing.toml"),
        ((*CELL, "--strategy", "plain,host"), "--strategy: got 'plain,host': an explanation is of one strategy"),
        (("step.py:make", "--strategy", "plain"), "--strategy: got 'plain': an explanation is of one strategy"),
        ((*CELL, "--strategy", "recomputed"), "LU-DnCNN cannot be trained with recomputed"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(explain, arguments, words):
    result = explain(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("bench: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr


def test_a_cell_that_fails_is_one_sentence(explain, radon_fails):
    result = explain("--architecture", "DEQ4IP", "--task", "broken")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "bench: DEQ4IP on broken cannot be recorded: RuntimeError: out of order\n"


def test_help_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys; from bench.commands.verbs import app; app(['explain', '--help'], standalone_mode=False); "
        "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_every_line_is_named_whatever_the_terminal(explain, terminal, columns):
    rows = json.loads(explain(*CELL, "--batch", "2", "--json").stdout)["rows"]
    text = terminal(columns, "explain", *CELL, "--batch", "2", "--top", "1000")
    for row in rows:
        assert set(row["place"].split()) <= set(text.split())
    assert max(map(len, text.splitlines())) <= columns
