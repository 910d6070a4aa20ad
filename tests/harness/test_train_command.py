"""bench train, and the stage accuracy of bench run, as a user types them, on tiny images."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from bench import config
from bench.cells import suite
from bench.config import load
from bench.errors import StorageError
from bench.execution import progress
from bench.records.store import RecordStore

TINY = """
[suite]
stages = ["accuracy"]
architectures = ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"]
tasks = ["deblurring", "ct", "mri"]

[accuracy]
classical = ["initialisation"]

[preset.demo.model]
stages = 2

[preset.demo.model.solver]
max_evaluations = 4

[preset.demo.accuracy]
steps = 4
batch = 2
validate_every = 2
checkpoint_every = 2
validation_images = 2
test_images = 3

[preset.demo.task.deblurring.options]
image_shape = [3, 16, 16]

[preset.demo.task.ct.options]
image_size = 16
detectors = 23
angles = 20

[preset.demo.task.mri-4x.options]
image_shape = [2, 16, 16]

[preset.demo.task.mri-8x.options]
image_shape = [2, 16, 16]
"""
WITHOUT_CLASSICAL = {"accuracy": {"classical": ()}}
CLASSICAL = ["initialisation", "gradient descent", "total variation"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "bench.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bench(bench, folder):
    """Run `bench ...` in a folder that holds nothing but a tiny suite as bench.toml."""
    (folder / "bench.toml").write_text(TINY)
    return bench


def rows(printed):
    """The table's rows, each as its cells."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def accuracies(folder, output="results/runs"):
    """Stored records by task and name."""
    stored = [json.loads(path.read_bytes()) for path in (folder / output / "records").glob("*--accuracy--*.json")]
    return {(record["task"], record["architecture"]): record for record in stored}


@pytest.mark.slow
def test_every_architecture_on_every_task_beside_the_classical_methods(bench, folder):
    (folder / "bench.toml").write_text(TINY.replace('["initialisation"]', str(CLASSICAL)))
    result = bench("run")
    assert result.returncode == 0, result.stderr
    tasks = ["deblurring", "ct", "mri-4x", "mri-8x"]
    stored = accuracies(folder)
    assert set(stored) == {(task, name) for task in tasks for name in [*CLASSICAL, *config_architectures()]}
    assert [row[0] for row in rows(result.stdout) if row[0]] == [*CLASSICAL, *config_architectures()]
    assert all(all(row[3:]) for row in rows(result.stdout))
    assert result.stdout == (folder / "results/runs/table2.md").read_text()
    for (task, name), record in stored.items():
        accuracy = record["accuracy"]
        (training,) = accuracy["trainings"]
        assert training["status"] == "ok" and training["seed"] == 0
        assert len(training["psnr_db"]) == len(training["ssim"]) == accuracy["data"]["test_images"] == 3
        assert accuracy["data"]["metric"] == ("real" if "mri" in task else "image")
        assert accuracy["data"]["data_range"] == (1.0 if task == "ct" else 2.0)
        assert accuracy["threads"] == 1
        assert record["preset"] == "demo" and record["image_shape"][1:] == [16, 16]
        kept = load_file(folder / "results/runs" / accuracy["reconstructions"])
        assert {tuple(tensor.shape) for tensor in kept.values()} == {(3, *record["image_shape"])}
        compared = slice(0, 1) if "mri" in task else slice(None)
        error = (kept["reconstruction"] - kept["truth"])[:, compared].square().mean(dim=(1, 2, 3))
        expected = 10 * torch.log10(accuracy["data"]["data_range"] ** 2 / error)
        assert training["psnr_db"] == pytest.approx(expected.tolist(), abs=1e-3)
        if name in CLASSICAL:
            assert record["parameters"] is None and training["curve"] == []
            assert torch.equal(kept["reconstruction"], kept["initialisation"]) or name != "initialisation"
            continue
        assert record["parameters"]["trainable"] > 0
        assert [point["step"] for point in training["curve"]] == [1, 2, 3, 4]
        assert (folder / f"results/runs/checkpoints/{task}--{name}--{record['key']}--seed0.pt").exists()
    chosen = {name: list(stored["ct", name]["accuracy"]["chosen"]) for name in CLASSICAL}
    assert chosen == {"initialisation": [], "gradient descent": ["iterations"], "total variation": ["weight"]}


def config_architectures():
    return list(config.load(config.default_path()).suite.architectures)


def test_train_shares_everything_with_the_stage(bench, folder):
    arguments = ("--architecture", "luser-sw", "--task", "deblurring")
    result = bench("train", *arguments, "--seed", "3", "--seed", "4", "--steps", "3")
    assert result.returncode == 0, result.stderr
    table = rows(result.stdout)
    assert [row[0] for row in table if row[0]] == ["initialisation", "LUSER-SW"]
    assert table[-1][3].count("±") == 2  # over images, over seeds
    assert "photographs, 3x16x16," in result.stdout and "tested on 3 images" in result.stdout
    assert "data range 2" in result.stdout and "3 steps" in result.stdout
    record = accuracies(folder)["deblurring", "LUSER-SW"]
    assert [training["seed"] for training in record["accuracy"]["trainings"]] == [3, 4]
    assert record["settings"]["accuracy"]["steps"] == 3
    for seed in (3, 4):
        assert f"seed{seed}.pt" in result.stderr
    again = bench("train", *arguments, "--seed", "3", "--seed", "4", "--steps", "3")
    assert again.stdout == result.stdout
    assert "2 of 2 cells taken from" in again.stderr


def test_strategies(bench, folder):
    """The same mathematics: what is made again in backward gives the same training."""
    arguments = ("--architecture", "LU-DnCNN,LUSER-SW", "--task", "deblurring", "--steps", "2")
    result = bench("train", *arguments, "--strategy", "plain,checkpoint")
    assert result.returncode == 0, result.stderr
    assert "left out: LUSER-SW cannot be trained with checkpoint" in result.stderr
    found = {name: record["accuracy"]["trainings"][0] for (_, name), record in accuracies(folder).items()}
    assert found.keys() == {"initialisation", "LU-DnCNN", "LU-DnCNN + checkpoint", "LUSER-SW"}
    assert found["LU-DnCNN"]["psnr_db"] == found["LU-DnCNN + checkpoint"]["psnr_db"]


def test_a_training_that_diverges_is_shown_and_the_other_seeds_go_on(bench, folder, monkeypatch):
    (folder / "bench.toml").write_text(TINY + "\n[preset.demo.training]\nlearning_rate = 1e30\n")
    result = bench("train", "--architecture", "LU-DnCNN", "--task", "deblurring", "--seed", "0", "--seed", "1")
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout)[-1][3].startswith("diverged")
    assert "LU-DnCNN on deblurring, seed 1, diverged: loss" in result.stderr
    record = accuracies(folder)["deblurring", "LU-DnCNN"]
    assert record["status"] == "ok" and record["accuracy"]["reconstructions"] is None
    for training in record["accuracy"]["trainings"]:
        assert training["status"] == "diverged" and "at step" in training["reason"]
        assert training["psnr_db"] == training["ssim"] == []


def test_another_data_set(bench, folder):
    result = bench("train", "--architecture", "LUSER-SW", "--task", "ct", "--data", "mri-phantoms", "--steps", "1")
    assert result.returncode == 2
    assert result.stderr == "bench: --data: mri-phantoms has images of 2 channels, and Radon takes 1\n"
    result = bench(
        "train", "--architecture", "LUSER-SW", "--task", "deblurring", "--data", "CelebA", "--data-folder", "x"
    )
    assert result.returncode == 2
    assert "CelebA needs the folder x, which does not exist" in result.stderr


def test_a_metric_of_complex_images_needs_them(bench, folder):
    text = (folder / "bench.toml").read_text()
    (folder / "bench.toml").write_text(text + '\n[preset.demo.task.ct]\nmetric = "real"\n')
    result = bench("train", "--architecture", "LUSER-SW", "--task", "ct")
    assert result.returncode == 2
    place = f"bench.toml line {text.count(chr(10)) + 3}: preset.demo.task.ct.metric"
    assert f'{place}: "real" is of complex images, which have two channels, and these have 1' in result.stderr


def test_unknown_names(bench):
    assert bench("train", "--architecture", "U-Net", "--task", "ct").returncode == 2
    assert bench("train", "--architecture", "DEQ4IP", "--task", "sonar").returncode == 2
    assert bench("train", "--architecture", "DEQ4IP", "--task", "ct", "--steps", "0").returncode == 2


TRAIN = ("train", "--architecture", "LUSER-SW", "--task", "deblurring")


def checkpoint_of(folder):
    (path,) = (folder / "results/runs/checkpoints").iterdir()
    return path


def test_a_damaged_checkpoint_ends_the_run_and_stays(bench, folder):
    bench(*TRAIN)
    path = checkpoint_of(folder)
    path.write_bytes(path.read_bytes()[:5000])
    for record in (folder / "results/runs/records").glob("*LUSER*"):
        record.unlink()
    result = bench(*TRAIN)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "damaged" in result.stderr and str(path.name) in result.stderr
    assert path.stat().st_size == 5000
    assert bench(*TRAIN, "--fresh").returncode == 0
    assert path.stat().st_size > 5000


def test_a_checkpoint_of_another_architecture_ends_the_run_and_stays(bench, folder):
    bench(*TRAIN)
    path = checkpoint_of(folder)
    bench("train", "--architecture", "LU-DnCNN", "--task", "deblurring")
    (other,) = (folder / "results/runs/checkpoints").glob("*LU-DnCNN*")
    path.write_bytes(other.read_bytes())
    for record in (folder / "results/runs/records").glob("*LUSER*"):
        record.unlink()
    result = bench(*TRAIN, "--jobs", "1")
    assert result.returncode == 2
    assert "is of LU-DnCNN on deblurring" in result.stderr and "expected LUSER-SW on deblurring" in result.stderr
    assert path.read_bytes() == other.read_bytes()


def test_what_cannot_be_stored_ends_a_run_side_by_side_too(folder):
    (folder / "out").mkdir()
    (folder / "out/checkpoints").write_text("a file where the folder should be")
    cells = suite.cells(
        load(None, WITHOUT_CLASSICAL, "demo"), ["LUSER-SW", "LUSER-DW"], ["deblurring"], stage="accuracy"
    )
    with pytest.raises(StorageError, match=r"cannot (read|write) .*checkpoints"):
        list(suite.run(cells, RecordStore(folder / "out/records", print), jobs=2))


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_is_heard_from_every_process(folder, jobs):
    cells = suite.cells(
        load(None, WITHOUT_CLASSICAL, "demo"), ["LUSER-SW", "LUSER-DW"], ["deblurring"], stage="accuracy"
    )
    heard = []

    def listener(place, what):
        heard.append((place, what))

    done = list(suite.run(cells, RecordStore(folder / "records", print), jobs=jobs, listener=listener))
    assert [record.status for _, record, _ in done] == ["ok", "ok"]
    for place in (0, 1):
        steps = [what for where, what in heard if where == place]
        assert [(what.done, what.total) for what in steps] == [(0, None), (1, 4), (2, 4), (3, 4), (4, 4)]
        assert "loss" in steps[1].status and "dB" in steps[-1].status
    progress.tell(1, 1, "nobody listens")


def test_killed_and_resumed_it_is_the_same_to_the_bit(folder):
    """DEQ4IP has all that a state can have: solver, BatchNorm's averages, spectral normalisation's vectors."""
    (folder / "bench.toml").write_text(TINY.replace("steps = 4", "steps = 12"))
    command = [sys.executable, "-c", "from bench.cli import main; main()", "train", "--task", "deblurring"]
    command += ["--architecture", "DEQ4IP", "--output"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "straight"], check=True, env=environment, capture_output=True)
    process = subprocess.Popen([*command, "killed"], env=environment, stderr=subprocess.DEVNULL)
    while not list((folder / "killed").glob("checkpoints/*.pt")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert ("deblurring", "DEQ4IP") not in accuracies(folder, "killed")
    subprocess.run([*command, "killed"], check=True, env=environment, capture_output=True)

    (straight,), (killed,) = (list((folder / name).glob("checkpoints/*.pt")) for name in ("straight", "killed"))
    one, other = (torch.load(path, weights_only=True)["state"] for path in (straight, killed))
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert one["curve"] == other["curve"] and len(one["curve"]) == 12
    trainings = [accuracies(folder, name)["deblurring", "DEQ4IP"] for name in ("straight", "killed")]
    (first,), (second,) = (record["accuracy"]["trainings"] for record in trainings)
    assert (first["psnr_db"], first["ssim"]) == (second["psnr_db"], second["ssim"])


def test_the_demo_reduces_sizes_and_sets_the_schedule():
    changed = config.load(config.default_path(), preset="demo")
    base = config.load(config.default_path())
    for name in base.task:
        assert changed.task[name].operator == base.task[name].operator
        assert changed.task[name].data == base.task[name].data


def test_the_folder_of_the_images_is_the_sets_own_or_one_that_has_it(tmp_path):
    from bench.commands.train import with_data
    from bench.config import load

    (tmp_path / "fetched-ct").mkdir()
    for given, found in (("fetched-ct", tmp_path / "fetched-ct"), ("fetched-mri", tmp_path), (None, tmp_path)):
        task = with_data(load(), given, tmp_path).task["ct"]
        assert task.data_options["folder"] == str(found)
        assert task.data == (given or "ct-phantoms")
