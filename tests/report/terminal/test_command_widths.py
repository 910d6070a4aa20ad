"""What validate, merge, jobs and train print in terminals of 60, 80 and 120 columns: names and numbers stay whole."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from handmade import ARCHITECTURES, accuracy, memory, stored, timing, training

from bench.execution import slurm
from bench.records import Peak, Row
from bench.report.terminal import validation
from bench.report.terminal.layout import LEAST, drawn
from bench.units import GiB, MiB

WIDTHS = (60, 80, 120)
TASKS = ("deblurring", "ct")


def words(text):
    return set(text.split())


def longest_line(text):
    return max(map(len, text.splitlines()))


def left_out(text):
    note = re.search(r"\(not in \d+ columns: (.*)\)", " ".join(text.split("\n")))
    return note[1].split(", ") if note else []


@pytest.mark.parametrize("columns", WIDTHS)
def test_validate(columns):
    peak = {"fits": True, "allocated_bytes": GiB, "reserved_bytes": 2 * GiB, "retries": 0, "fallbacks": 0}
    events = {"same": 45_320, "temporaries": 1_234, "on_card": 567, "recorded": 89}
    rows = [
        Row(
            architecture=name,
            task="deblurring",
            cap="Quadro RTX 6000",
            key="k",
            status="ok",
            usable_bytes=8 * GiB,
            workspaces="exact",
            predicted_batch=1_038,
            measured_batch=1_037,
            predicted=[Peak(batch=1_037, **peak)],
            measured=[Peak(batch=1_037, **peak | {"reserved_bytes": 2 * GiB + MiB})],
            events=events,
            seconds=1.0,
        )
        for name in ARCHITECTURES
    ]
    table = validation.table(rows)
    text = drawn(table, LEAST["validation"], columns)
    whole = {"deblurring", *ARCHITECTURES, "Quadro", "RTX", "6000", "1038", "1037", "DIFFERS", "-0.05%"}
    assert whole <= words(text)
    if "events of both" not in left_out(text):
        assert {"45,320"} <= words(text)
    assert longest_line(text) <= columns
    assert text.count("LUSER-SW") == text.count("LUSER-DW") == 1


@pytest.mark.parametrize("columns", WIDTHS)
def test_merge(terminal, tmp_path, columns):
    for task in TASKS:
        records = [memory(name, (place + 1) * 300 * MiB, task=task) for place, name in enumerate(ARCHITECTURES)]
        stored(
            tmp_path / task / "records", *records, *(timing(name, 1234.5, 0.25, task=task) for name in ARCHITECTURES)
        )
    text = terminal(columns, "merge", *TASKS, "--output", "all")
    assert {*ARCHITECTURES, "parameters", "8GB", "24GB", "1.23e+03"} <= words(text)
    assert text.count("deblurring") >= 2  # in both tables
    assert longest_line(text) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_train(terminal, tmp_path, columns, monkeypatch):
    """The table of a training, from records that are there."""
    records = [accuracy(name, training((12.345, 34.567))) for name in ARCHITECTURES]
    stored(tmp_path / "runs" / "records", *records)
    text = terminal(columns, "report", "--records", "runs", "--formats", "terminal", "--select", "table2")
    assert {*ARCHITECTURES, "PSNR,", "SSIM", "23.46", "±", "15.71"} <= words(text)
    assert longest_line(text) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_jobs(terminal, columns, monkeypatch):
    log = Path("results/runs/slurm/4242_1_log.err")
    job = SimpleNamespace(
        shard="1/8", options=["--stages", "accuracy", "--task", "mri-4x"], cluster="slurm", job_id="4242_1"
    )
    monkeypatch.setattr(slurm, "jobs", lambda output: [(job, "running", log), (job, "failed", log)])
    text = terminal(columns, "jobs")
    assert {"1/8", "slurm", "4242_1", "running", "failed", str(log), "--stages", "mri-4x"} <= words(text)
    assert "2 jobs: 1 running, 1 failed." in text
    assert longest_line(text) <= columns
