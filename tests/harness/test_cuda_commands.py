"""The commands that need a GPU, from the command line to the files, on a stand-in."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from stand_in import StandIn

from bench.memory.measuring.cuda import Gpu
from bench.records import Validation
from bench.units import GiB

SMALL = """
[suite]
stages = ["memory"]
architectures = ["LU-DnCNN", "LUSER-SW"]
tasks = ["blur"]
gpu_caps = ["1GB", "2GB"]

[model]
stages = 1

[model.solver]
max_evaluations = 6

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 64, 64] }
"""


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 4 GiB in this machine."""
    properties = SimpleNamespace(name="NVIDIA Stand-in 4", total_memory=4 * GiB)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device = StandIn()
    monkeypatch.setattr(Gpu, "measure", lambda self, trial: device.measure(trial))
    return device


@pytest.fixture
def bench(bench, tmp_path):
    """Run `bench ...` in a folder that holds nothing but this suite as bench.toml."""
    (tmp_path / "bench.toml").write_text(SMALL)
    return bench


@pytest.mark.parametrize("command", [("run", "--engine", "cuda"), ("validate",)])
def test_a_cap_above_the_device_is_one_sentence_and_exit_code_2(bench, gpu, tmp_path, command):
    result = bench(*command, "--gpu-cap", "8GB")
    assert result.returncode == 2
    assert result.stderr == (
        "bench: NVIDIA Stand-in 4 has 4.00 GiB, less than the 7.51 GiB that the cap leaves to train in: "
        "give a smaller cap\n"
    )
    assert not gpu.trials
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", [("run", "--engine", "cuda"), ("validate",)])
def test_a_driver_without_a_device_is_one_sentence_and_exit_code_2(bench, gpu, monkeypatch, command):
    def no_device(index):
        raise RuntimeError("No CUDA GPUs are available.\nMore lines.")

    monkeypatch.setattr(torch.cuda, "get_device_properties", no_device)
    result = bench(*command)
    assert result.returncode == 2
    remedy = "run it where there is one" if command == ("validate",) else "use --engine simulated"
    reason = "the cuda engine needs a GPU, but none answers (No CUDA GPUs are available)"
    assert result.stderr == f"bench: {reason}: {remedy}\n"


def test_both_engines_give_records_of_one_shape(bench, gpu, tmp_path):
    measured = json.loads(bench("run", "--engine", "cuda", "--json").stdout)
    simulated = json.loads(bench("run", "--json").stdout)
    for one, other in zip(measured, simulated, strict=True):
        assert one.keys() == other.keys() and one["memory"].keys() == other["memory"].keys()
        for card, predicted in zip(one["memory"]["cards"], other["memory"]["cards"], strict=True):
            assert card["edges"]["exact"] == {
                **predicted["edges"]["high"],
                "not_fitting": card["edges"]["exact"]["not_fitting"],
            }
    assert {trial.cublas_workspace_config for trial in gpu.trials} == {":4096:2:16:8"}


def test_a_device_lost_in_mid_run_keeps_what_was_done(bench, gpu, tmp_path):
    def stored():
        return {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "results/runs/records").glob("*.json")}

    arguments = ("run", "--engine", "cuda", "--gpu-cap", "1GB")
    bench(*arguments, "--architecture", "LU-DnCNN")
    ((name, done),) = stored().items()
    gpu.last = len(gpu.trials)

    result = bench(*arguments)
    assert result.returncode == 3
    sentence = "the probe of batch 1 under 1GB failed: AcceleratorError: CUDA error: device lost"
    assert f"bench: 1 of 2 cells failed: LUSER-SW on blur: {sentence}\n" in result.stderr
    assert stored()[name] == done
    assert [record["reason"] for record in stored().values() if record["status"] == "failed"] == [sentence]

    assert bench(*arguments, "--gpu-cap", "2GB").returncode == 3  # a new card of a cell that is known
    assert stored()[name] == done

    gpu.last = None
    assert bench(*arguments).returncode == 0
    assert stored()[name] == done


def test_validation_writes_its_file_and_its_table(bench, gpu, tmp_path):
    result = bench("validate")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "results/validation/nvidia-stand-in-4.json"
    assert {file.name for file in path.parent.iterdir()} == {path.name, ".lock"}
    stored = Validation.model_validate_json(path.read_bytes())
    assert stored.device == "NVIDIA Stand-in 4"
    assert [(row.architecture, row.task, row.cap, row.status, row.agrees) for row in stored.rows] == [
        (architecture, "blur", cap, "ok", True) for architecture in ("LU-DnCNN", "LUSER-SW") for cap in ("1GB", "2GB")
    ]
    for row in stored.rows:
        assert {row.measured_batch, row.measured_batch + 1} <= {seen["batch"] for seen in row.measurements}
        assert {seen["limit_bytes"] for seen in row.measurements} == {row.usable_bytes}
    lines = [line for line in result.stdout.splitlines() if line.startswith("| blur")]
    assert len(lines) == 4
    assert all("+0.00%" in line and "equal" in line for line in lines)
    assert "4 of 4 equal; largest error of peak reserved 0.00%" in result.stdout
    assert len(re.findall(r"predicted (\d+), measured \1 ", result.stderr)) == 4

    content, trials = path.read_bytes(), len(gpu.trials)
    again = bench("validate")
    assert (again.returncode, again.stdout, again.stderr) == (0, result.stdout, "")
    assert (path.read_bytes(), len(gpu.trials)) == (content, trials)


def test_a_device_lost_in_mid_validation_keeps_what_was_done(bench, gpu, tmp_path):
    bench("validate", "--architecture", "LU-DnCNN", "--gpu-cap", "1GB")
    path = tmp_path / "results/validation/nvidia-stand-in-4.json"
    (done,) = Validation.model_validate_json(path.read_bytes()).rows
    gpu.last = len(gpu.trials)
    result = bench("validate")
    assert result.returncode == 3
    assert "3 of 4 rows failed; the first: the probe of batch " in result.stderr.splitlines()[-1]
    assert "CUDA error: device lost" in result.stdout
    rows = Validation.model_validate_json(path.read_bytes()).rows
    assert rows[0] == done
    assert [row.status for row in rows] == ["ok", "failed", "failed", "failed"]
