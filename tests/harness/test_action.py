"""The composite action, step by step as a runner takes them: each script with the inputs in its environment."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}

TRAIN = """
import torch

def make_step(batch):
    model = torch.nn.Linear(1000, 4000).to("cuda")

    def step():
        model.zero_grad()
        model(torch.rand(batch, 1000, device="cuda")).sum().backward()

    return step
"""


def ran(folder, name, inputs, outputs):
    """Run one step as bash does on a runner; expressions are replaced by what they stand for."""
    values = {f"inputs.{key}": value for key, value in inputs.items()}
    values |= {f"steps.fit.outputs.{key}": value for key, value in outputs.items()}
    step = STEPS[name]
    given = {
        key: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], text) for key, text in step["env"].items()
    }
    runner = {"RUNNER_TEMP": folder, "GITHUB_OUTPUT": folder / "output", "GITHUB_STEP_SUMMARY": folder / "summary.md"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | given | {key: str(value) for key, value in runner.items()} | {"PATH": path}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def defaults(**given):
    return {name: each.get("default", "") for name, each in ACTION["inputs"].items()} | given


@pytest.mark.parametrize(("batch", "code"), [pytest.param("64", 0, marks=pytest.mark.slow), ("1000000", 1)])
def test_the_steps_in_turn(tmp_path, batch, code):
    (tmp_path / "train.py").write_text(TRAIN)
    inputs = defaults(step="train.py:make_step", gpu="RTX 3080,RTX 4090", batch=batch)
    done = ran(tmp_path, "Does it fit?", inputs, {})
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    answer = json.loads(Path(outputs["json"]).read_text())
    assert set(outputs) == set(ACTION["outputs"])
    assert int(outputs["largest-batch"]) == answer["cards"][0]["largest_batch"] > 64
    assert "| RTX 3080 |" in (tmp_path / "summary.md").read_text()
    done = ran(tmp_path, "Fail where the batch does not fit", inputs, outputs)
    assert done.returncode == code
    if code:
        assert done.stderr == (f"batch 1000000 does not fit RTX 3080: the largest is {outputs['largest-batch']}\n")


def test_a_step_that_is_not_there_fails_the_action(tmp_path):
    done = ran(tmp_path, "Does it fit?", defaults(step="train.py:make_step", **{"gpu-cap": "8GB"}), {})
    assert done.returncode == 2
    assert "train.py" in done.stderr


def test_no_input_is_written_into_a_script():
    """An expression inside a script would run what an input says."""
    assert not [step["name"] for step in STEPS.values() if "${{" in step["run"]]
