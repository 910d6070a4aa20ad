"""The stage profile, from the command to the record, the plots and a comparison."""

import json
import shutil
import subprocess
import sys

import pytest

SUITE = """
[suite]
architectures = ["LU-DnCNN", "LUSER-SW"]
tasks = ["blur"]
gpu_caps = ["8GB", "1GB"]

[model]
stages = 1

[model.solver]
max_evaluations = 3

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 32, 32] }

[task.large]
operator = "GaussianBlur"
options = { image_shape = [3, 768, 768] }
"""
LUSER = ("--task", "blur", "--architecture", "LUSER-SW")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a suite, and the memory and profiles of its cells in results/runs."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "bench.toml").write_text(SUITE)
    code = "from bench.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code, "run", "--stages", "memory,profile"], cwd=folder, check=False)
    assert run.returncode == 0
    return folder


@pytest.fixture
def bench(bench, measured, tmp_path):
    """Run `bench ...` in a copy of that folder."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return bench


def recorded(folder, stage, architecture="LUSER-SW"):
    (path,) = folder.glob(f"results/runs/records/blur--{architecture}--{stage}--*.json")
    return path, json.loads(path.read_text())


def test_a_profile_is_the_explanation_of_the_largest_batch_on_the_largest_card(bench, tmp_path):
    profile, memory = recorded(tmp_path, "profile")[1]["profile"], recorded(tmp_path, "memory")[1]["memory"]
    edge = next(card["edges"]["high"] for card in memory["cards"] if card["card"] == "8GB")
    made_of = profile["composition"]
    assert (profile["card"], profile["workspace"], profile["fits"]) == ("8GB", "high", True)
    assert made_of["batch"] == edge["largest_batch"]
    assert made_of["peak_allocated_bytes"] == edge["peak_allocated_bytes"]
    assert made_of["peak_reserved_bytes"] == edge["peak_reserved_bytes"]
    explained = json.loads(bench("explain", *LUSER, "--gpu-cap", "8GB", "--json").stdout)["categories"]
    categories = {name: sum(groups.values()) for name, groups in made_of["size_bytes"].items()}
    assert categories.items() <= explained.items()
    assert sum(categories.values()) == made_of["peak_reserved_bytes"]
    assert sum(explained[name] for name in explained.keys() - categories.keys()) == (
        profile["total_bytes"] - made_of["peak_reserved_bytes"]  # free, and the context
    )


def test_the_timeline_adds_up_and_has_the_peak(measured):
    profile = recorded(measured, "profile")[1]["profile"]
    step, made_of = profile["timeline"], profile["composition"]
    assert step["step"] in (1, 2)  # with wide bounds of workspaces the peak may be in the first
    assert step["at"] == sorted(set(step["at"])) and step["at"][-1] < step["events"]
    assert 190 <= len(step["at"]) <= 200
    bands = list(step["size_bytes"].values())
    assert {len(band) for band in bands} == {len(step["at"])}
    allocated = [sum(column) for column in zip(*bands[:-1], strict=True)]
    assert max(allocated) == made_of["peak_allocated_bytes"] == allocated[step["at"].index(step["moment"])]
    # of both steps; the one that is drawn has the peak of what is allocated
    assert max(sum(column) for column in zip(*bands, strict=True)) <= made_of["peak_reserved_bytes"]
    starts, stops = ([span[end] for span in step["phases"]] for end in ("start", "stop"))
    assert [*starts, step["events"]] == [0, *stops]  # the phases are the step
    assert {span["phase"] for span in step["phases"]} >= {"input", "forward", "backward", "update"}


def test_the_reference_does_not_depend_on_the_card(bench, tmp_path):
    large = recorded(tmp_path, "profile")[1]["profile"]
    result = bench("run", "--stages", "profile", "--json", *LUSER, "--gpu-cap", "1GB")
    small = json.loads(result.stdout)[0]["profile"]
    assert (large["card"], small["card"]) == ("8GB", "1GB")
    assert small["composition"]["batch"] < large["composition"]["batch"]
    assert small["reference"] == large["reference"]
    assert small["reference"]["batch"] == 16


def test_a_cell_that_does_not_fit_is_profiled_up_to_its_end(bench):
    arguments = ("run", "--stages", "profile", "--architecture", "LU-DnCNN", "--task", "large", "--gpu-cap", "2GB")
    table = bench(*arguments).stdout
    assert "| largest batch, 2GB " in table and "| -  " in table
    profile = json.loads(bench(*arguments, "--json").stdout)[0]["profile"]
    assert (profile["fits"], profile["composition"]["batch"]) == (False, 1)
    sizes = profile["composition"]["size_bytes"].values()
    reserved = profile["composition"]["peak_reserved_bytes"]
    assert sum(size for groups in sizes for size in groups.values()) == reserved <= profile["usable_bytes"]


def test_its_table_and_plots(bench, tmp_path):
    again = bench("run", "--stages", "profile")
    assert "2 of 2 cells taken from" in again.stderr
    assert again.stdout == (tmp_path / "results/runs/profile.md").read_text()
    assert again.stdout.count("saved activations, MiB") == 1
    plotted = bench("plot", "--select", "composition,timeline", "--formats", "svg")
    assert plotted.returncode == 0, plotted.stderr
    assert {path.name for path in (tmp_path / "results/runs/plots").iterdir()} == {"composition.svg", "timeline.svg"}
    report = bench("report", "--formats", "csv,html", "--select", "profile")
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "results/report/report.html").read_text()
    assert "Composition of the peak" in page and page.count("<svg") >= 2


def test_a_comparison_of_profiled_records_says_why_memory_changed(bench, measured, tmp_path):
    path, record = recorded(tmp_path, "profile")
    saved = record["profile"]["reference"]["size_bytes"]["saved activations"]
    largest = max(saved, key=saved.get)
    saved[largest] += 2**20
    path.write_text(json.dumps(record))
    compared = ("compare", measured / "results/runs", "results/runs")
    assert bench(*compared).returncode == 0  # no number is of a profile
    path, record = recorded(tmp_path, "memory")
    record["memory"]["peak_bytes_per_image"]["high"] += 2**16
    path.write_text(json.dumps(record))
    worse = bench(*compared)
    assert worse.returncode == 1
    assert f"saved activations of {largest}" in worse.stderr
    assert "+1.00 MiB at batch 16" in worse.stderr


def test_two_machines_have_to_agree_on_a_profile(bench, measured, tmp_path):
    merged = bench("merge", measured / "results/runs", "results/runs", "--output", "both")
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "both/profile.md").read_text() == (tmp_path / "results/runs/profile.md").read_text()
    path, record = recorded(tmp_path, "profile")
    path.write_text(json.dumps(record | {"seconds": 1e3}))
    assert bench("merge", measured / "results/runs", "results/runs", "--output", "slower").returncode == 0
    record["profile"]["reference"]["peak_allocated_bytes"] += 1
    path.write_text(json.dumps(record))
    refused = bench("merge", measured / "results/runs", "results/runs", "--output", "other")
    assert refused.returncode == 2
    assert "differ in profile.reference.peak_allocated_bytes" in refused.stderr
