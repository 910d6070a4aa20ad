"""Shards as jobs: run by submitit's local executor, handed to a SLURM of a few lines of shell, and, where there is one,
to a real one. The lines of shell answer as SLURM 22.05.8 has answered.
"""

import json
import pickle
import re
import shutil
import subprocess
import sys
import time

import pytest

pytest.importorskip("submitit")

SCHEDULER = {
    "sbatch": 'cp "$1" submission.sh && echo "Submitted batch job 42"',
    "srun": "exit 1",
    "squeue": "cat states.txt",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM that accepts jobs and never runs them; what `squeue` says is in states.txt."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in SCHEDULER.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")

    def says(*states):
        lines = [f"42_{index} {state}\n" for index, state in enumerate(states) if state]
        (tmp_path / "states.txt").write_text("".join(lines))

    return says


def refused(result, *messages):
    assert result.returncode == 2, result
    assert result.stderr.startswith("bench: ") and result.stderr.count("\n") == 1
    for message in messages:
        assert message in result.stderr


def states(printed):
    """Shard and state of each job in a table that was printed."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    return {row[0]: row[3] for row in rows[1:]}


def test_two_shards_as_local_jobs_of_which_one_fails(bench, tmp_path):
    (tmp_path / "bench.toml").write_text(
        (tmp_path / "bench.toml").read_text().replace("[model]", "[model]\ncheckpoint = true")
    )
    # LUSER-SW has nothing to checkpoint, and says so when it is built.
    options = ("--architecture", "LU-DnCNN", "--architecture", "LUSER-SW", "--task", "blur")
    result = bench("submit", "--shards", "2", "--cluster", "local", "--", *options)
    assert result.returncode == 0, result.stderr
    assert "2 of 2 shards submitted" in result.stderr
    deadline = time.monotonic() + 300
    while "running" in (jobs := bench("jobs")).stdout and time.monotonic() < deadline:
        time.sleep(0.5)
    assert sorted(states(jobs.stdout).values()) == ["done", "failed"]
    records = [json.loads(path.read_text()) for path in (tmp_path / "results/runs/records").glob("*.json")]
    assert sorted((record["architecture"], record["status"]) for record in records) == [
        ("LU-DnCNN", "ok"),
        ("LUSER-SW", "failed"),
    ]
    (failed,) = (shard for shard, state in states(jobs.stdout).items() if state == "failed")
    again = bench("submit", "--shards", "2", "--cluster", "local", "--dry-run", "--", *options)
    assert again.stdout == f"bench run {' '.join(options)} --shard {failed} --output results/runs\n"
    assert "1 of 1 cells taken from" in bench("run", *options[:2], *options[4:]).stderr
    merged = bench("merge", "results/runs", "--output", "whole")
    assert (tmp_path / "whole/table3.md").read_text() == merged.stdout
    assert "LUSER-SW" in merged.stdout


def test_what_slurm_is_given(bench, slurm, tmp_path):
    arguments = ("--partition", "gpu", "--gpus-per-task", "2", "--time", "90", "--sbatch", "account=imaging")
    result = bench("submit", "--shards", "4", *arguments, "--", "--stages", "timing")
    assert result.returncode == 0, result.stderr
    script = (tmp_path / "submission.sh").read_text()
    asked = dict(re.findall(r"#SBATCH --([\w-]+)=(.*)", script))
    expected = {"array": "0-3%4", "partition": "gpu", "gpus-per-task": "2", "time": "90", "account": "imaging"}
    assert expected.items() <= asked.items()
    listed = json.loads((tmp_path / "results/runs/jobs/submitted.json").read_text())
    assert [(job["shard"], job["job_id"], job["options"]) for job in listed] == [
        (f"{index + 1}/4", f"42_{index}", ["--stages", "timing"]) for index in range(4)
    ]


def test_each_job_is_its_shards_run(bench, slurm, tmp_path):
    from submitit import SlurmJob

    bench("submit", "--shards", "2", "--output", "out", "--", "--gpu-cap", "8GB")
    runs = [SlurmJob(tmp_path / "out/jobs", f"42_{index}").submission().function for index in range(2)]
    assert [run.arguments for run in runs] == [
        ["run", "--gpu-cap", "8GB", "--shard", f"{index}/2", "--output", str(tmp_path / "out")] for index in (1, 2)
    ]
    assert runs[0].checkpoint().function is runs[0]  # an interrupted job goes on with the same


def test_a_run_goes_on_when_slurm_announces_the_end_of_its_job(tmp_path, monkeypatch):
    from bench.execution.slurm import ShardRun

    (tmp_path / "run").write_text("#!/bin/sh\nkill -TERM $$\nkill -USR2 $$\ntouch went-on\n")
    (tmp_path / "run").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "run"))
    ShardRun([])()
    assert (tmp_path / "went-on").exists()


def test_the_states_of_jobs_and_what_is_submitted_again(bench, slurm, tmp_path):
    submit = ("submit", "--shards", "6")
    bench(*submit)
    slurm("PENDING", "RUNNING", "CANCELLED", "OUT_OF_MEMORY", "COMPLETED", "COMPLETING")
    expected = ("pending", "running", "failed", "failed", "running", "running")
    result = bench("jobs")
    assert states(result.stdout) == {f"{index}/6": state for index, state in enumerate(expected, 1)}
    assert "6 jobs: 1 pending, 3 running, 2 failed." in result.stdout
    assert str(tmp_path / "results/runs/jobs/42_2_0_log.err") in result.stdout

    again = bench(*submit, "--dry-run")
    assert re.findall(r"--shard (\S+)", again.stdout) == ["3/6", "4/6"]
    other = bench(*submit, "--dry-run", "--", "--gpu-cap", "8GB")
    assert len(other.stdout.splitlines()) == 6  # other options are other jobs

    result = bench(*submit)
    assert "2 of 6 shards submitted; 4 are done or under way" in result.stderr
    assert "#SBATCH --array=0-1%2" in (tmp_path / "submission.sh").read_text()
    assert len(json.loads((tmp_path / "results/runs/jobs/submitted.json").read_text())) == 6


@pytest.mark.parametrize(
    ("told", "result", "state"),
    [
        ("PENDING", "error", "pending"),  # queued again: the error is that of the attempt before
        ("REQUEUED", "error", "pending"),
        ("RUNNING", "error", "running"),
        ("COMPLETED", "error", "failed"),
        ("PREEMPTED", "error", "failed"),  # and not queued again
        ("TIMEOUT", "success", "done"),  # it came to its end within the time it was given to stop
        (None, "success", "done"),
        (None, "error", "failed"),
        (None, None, "failed"),  # nothing has been heard of it for so long that SLURM no longer lists it
    ],
)
def test_the_result_counts_once_slurm_has_ended_the_job(bench, slurm, tmp_path, told, result, state):
    bench("submit", "--shards", "2")
    slurm(told, "RUNNING")
    if result:
        content = pickle.dumps((result, None if result == "success" else "Traceback"))
        (tmp_path / "results/runs/jobs/42_0_0_result.pkl").write_bytes(content)
    assert states(bench("jobs").stdout) == {"1/2": state, "2/2": "running"}


def test_slurm_does_not_answer(bench, slurm, tmp_path):
    bench("submit", "--shards", "2")
    says = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    (tmp_path / "programs/squeue").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    for command in (("jobs",), ("submit", "--shards", "2")):
        refused(bench(*command), "SLURM does not tell what became of the jobs", "Unable to contact slurm controller")


def test_a_single_job_that_slurm_no_longer_lists(bench, slurm, tmp_path):
    bench("submit", "--shards", "1")
    says = "slurm_load_jobs error: Invalid job id specified"
    (tmp_path / "programs/squeue").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    assert states(bench("jobs").stdout) == {"1/1": "failed"}


def test_a_local_job_that_was_killed_has_failed(bench, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    folder = tmp_path / "results/runs/jobs"
    folder.mkdir(parents=True)
    job = {"shard": "1/1", "options": [], "cluster": "local", "job_id": str(process.pid)}
    (folder / "submitted.json").write_text(json.dumps([job]))
    assert states(bench("jobs").stdout) == {"1/1": "failed"}


def test_no_slurm_is_an_error_and_never_a_local_run(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(bench("submit", "--shards", "2"), "submitting jobs needs SLURM, but there is no sbatch here")
    assert not (tmp_path / "results").exists()


def test_no_submitit(bench, slurm, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    refused(bench("submit", "--shards", "2"), "needs submitit, which is not installed", "pip install submitit")


def test_slurm_refuses(bench, slurm, tmp_path):
    says = "invalid partition specified: gpv", "Batch job submission failed: Invalid partition name specified"
    script = "".join(f"echo 'sbatch: error: {line}' >&2\n" for line in says)
    (tmp_path / "programs/sbatch").write_text(f"#!/bin/sh\n{script}exit 1\n")
    refused(bench("submit", "--shards", "2", "--partition", "gpv"), f"SLURM refuses the jobs: {'; '.join(says)}")


@pytest.mark.slow
def test_a_job_of_a_real_slurm_that_has_to_stop_is_queued_again(bench, tmp_path):
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0:
        pytest.skip("there is no SLURM here that answers")
    assert bench("submit", "--shards", "2", "--output", "jobs").returncode == 0
    first = json.loads((tmp_path / "jobs/jobs/submitted.json").read_text())[0]["job_id"]
    seen, requeued, deadline = [], False, time.monotonic() + 900
    while not seen or set(seen[-1]) != {"done"}:
        assert time.monotonic() < deadline, seen
        time.sleep(0.5)
        seen.append(tuple(states(bench("jobs", "--output", "jobs").stdout).values()))
        if seen[-1][0] == "running" and not requeued:
            subprocess.run(["scontrol", "requeue", first], check=True)
            requeued = True
    assert requeued
    assert "failed" not in {state for both in seen for state in both}
    assert "JOB REQUEUE" in (tmp_path / f"jobs/jobs/{first}_0_log.err").read_text()
    assert bench("run", "--output", "jobs").stdout == bench("run", "--output", "plain").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--", "--shard", "1/2"),
            "--shard cannot be passed on to the jobs: `bench submit` gives each job its --shard",
        ),
        (("--", "--output", "x"), "--output cannot be passed on to the jobs: `bench submit` gives each job its"),
        (("--", "--fresh"), "--fresh cannot be passed on to the jobs: give another --output"),
        (("--sbatch", "account"), "'account' is no option of sbatch: expected KEY=VALUE"),
    ],
)
def test_wrong_options_are_one_sentence(bench, slurm, arguments, message):
    refused(bench("submit", "--shards", "2", *arguments), message)


def test_options_that_bench_run_does_not_have_are_found_before_the_queue(bench, slurm, tmp_path):
    result = bench("submit", "--shards", "2", "--", "--gpu-cub", "8GB")
    assert result.returncode == 2
    assert "No such option: --gpu-cub" in result.stderr
    assert not (tmp_path / "results").exists()
    assert bench("submit", "--shards", "0").returncode == 2
    assert bench("submit", "--shards", "2", "--time", "4").returncode == 2  # SLURM announces the end from the start


def test_a_folder_without_jobs_and_a_damaged_list(bench, tmp_path):
    refused(bench("jobs"), "no jobs in results/runs: `bench submit --output results/runs` submits them")
    (tmp_path / "results/runs/jobs").mkdir(parents=True)
    (tmp_path / "results/runs/jobs/submitted.json").write_text("[{")
    refused(bench("jobs"), "submitted.json is no list of jobs: move it away")
