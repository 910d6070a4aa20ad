"""What an installation does, from an empty folder: `make wheel` runs this alone, against the wheel, on any Python.

It reads nothing of the repository. The figures are those of README.md and docs/EXPLAIN.md, made with the pinned torch.
"""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STEP = """
from torch import nn, rand, optim

def make_step(batch, device="cuda"):
    model = nn.Linear(1024, 1024).to(device)
    optimizer = optim.SGD(model.parameters())

    def step():
        optimizer.zero_grad()
        model(rand(batch, 1024, device=device)).square().mean().backward()
        optimizer.step()

    return step
"""
A_TEST = (
    STEP
    + """
def test_a_step(record_step):
    record_step(make_step).assert_largest_batch(at_least=1000, cap="1GB")
"""
)


@pytest.fixture
def run(tmp_path):
    """Run a module of the interpreter at hand in an empty folder, and return what it prints."""

    def run(*arguments, code=0):
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def test_largest_batches_of_the_suite(run):
    asked = ("--gpu-cap", "8GB", "--task", "deblurring", "--stages", "memory")
    found = json.loads(run("bench", "run", *asked, "--json"))
    largest = {
        record["architecture"]: record["memory"]["cards"][0]["edges"]["high"]["largest_batch"] for record in found
    }
    assert largest == {"LU-DnCNN": 7, "DEQ4IP": 52, "LUSER-SW": 26, "LUSER-DW": 26}
    assert "26 / 26 / 10" in run("bench", "report", "--formats", "terminal")


def test_a_gate_says_same_and_worse(run, tmp_path):
    suite = '[suite]\narchitectures = ["LUSER-SW"]\ntasks = ["deblurring"]\ngpu_caps = ["8GB"]\n'
    (tmp_path / "bench.toml").write_text(suite)
    run("bench", "baseline", "update", "--output", "baseline.json")
    assert "1 cell: 1 same" in run("bench", "check", "--baseline", "baseline.json")
    text = (tmp_path / "baseline.json").read_text()
    assert text.count('"value": 26,') == 1
    (tmp_path / "baseline.json").write_text(text.replace('"value": 26,', '"value": 27,'))
    assert "1 cell: 1 worse" in run("bench", "check", "--baseline", "baseline.json", code=1)


def test_a_step_of_ones_own(run, tmp_path):
    (tmp_path / "train.py").write_text(STEP)
    answer = json.loads(
        run("bench", "fit", "train.py:make_step", "--gpu-cap", "1GB", "--json", "--engine", "simulated")
    )
    (card,) = answer["cards"]
    asked = "import bench, train; print(bench.largest_batch(train.make_step, cap='1GB', engine='simulated') + 0)"
    (tmp_path / "asked.py").write_text(asked)
    assert run("asked") == f"{card['largest_batch']}\n"


def test_the_plugin_of_pytest(run, tmp_path):
    (tmp_path / "test_theirs.py").write_text(A_TEST)
    assert "1 passed" in run("pytest", "-q", "test_theirs.py")


@pytest.mark.parametrize("verb", ["list", "doctor", "schema", "plan", "explain"])
def test_verbs_answer(run, verb):
    arguments = {
        "schema": ["config"],
        "plan": ["--architecture", "LUSER-SW", "--task", "deblurring", "--gpu-cap", "8GB", "--batch", "30"],
        "explain": ["--architecture", "LUSER-SW", "--task", "deblurring", "--gpu-cap", "8GB"],
    }
    assert run("bench", verb, *arguments.get(verb, []))


def test_bad_input_is_one_sentence(run, tmp_path):
    assert run("bench", "run", "--gpu-cap", "8QB", code=2) == ""
