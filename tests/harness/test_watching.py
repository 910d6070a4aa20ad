"""How a run is watched: the clocks of bars, the lines without a terminal, and what a summary says."""

import io
import sys
from types import SimpleNamespace

import handmade
import pytest
from rich.console import Console
from rich.progress import Progress as Bar

from bench.commands.common import busy, import_torch
from bench.commands.watching import Bars, watched
from bench.execution.progress import Progress
from bench.report import summary

CELLS = [SimpleNamespace(architecture="LU-DnCNN", task="ct"), SimpleNamespace(architecture="DEQ4IP", task="ct")]


def record(place, status="ok", seconds=1.25):
    cell = CELLS[place]
    return SimpleNamespace(
        architecture=cell.architecture, task=cell.task, stage="memory", status=status, seconds=seconds
    )


def test_the_clock_of_a_cell_that_waits_stands_still():
    now = 100.0
    bar = Bar(console=Console(file=io.StringIO()), get_time=lambda: now, auto_refresh=False)
    bars = Bars(bar, CELLS)
    bars.hear(0, Progress(0, None, ""))
    now = 107.0
    assert [task.elapsed for task in bar.tasks] == [7.0, None]
    bars.finish(0, record(0), True)
    bars.hear(1, Progress(0, None, ""))
    now = 110.0
    bars.hear(1, Progress(1, 4, "loss 0.5"))
    assert [task.elapsed for task in bar.tasks] == [7.0, 3.0]
    assert [task.fields["status"] for task in bar.tasks] == ["ok", "loss 0.5"]


def test_without_a_terminal_each_cell_measured_now_has_a_line(capsys):
    with watched(CELLS) as watcher:
        watcher.finish(1, record(1), False)
        watcher.hear(0, Progress(0, None, ""))
        watcher.finish(0, record(0, "failed", 12.04), True)
    assert capsys.readouterr().err == "bench: 2 of 2: LU-DnCNN on ct, memory: failed (12.0 s)\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_hears_that_pytorch_is_imported(is_terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    import_torch()
    assert ("importing PyTorch" in capsys.readouterr().err) is is_terminal


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["report", "--formats", "terminal"], "reading records"),
        (["plot", "--select", "largest-batch"], "drawing"),
        (["list"], "importing PyTorch"),
        (["compare", "results/runs", "results/runs"], "importing PyTorch"),
        (["merge", "results/runs", "--output", "all"], "importing PyTorch"),
    ],
)
def test_what_takes_seconds_says_so_in_a_terminal(bench, tmp_path, monkeypatch, command, said):
    handmade.stored(tmp_path / "results/runs/records", handmade.memory("DEQ4IP", 2**29))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert said in bench(*command).stderr


def test_what_goes_on_may_have_brackets(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with busy("recording a[/b].py:step"):
        pass
    assert "recording a[/b].py:step" in capsys.readouterr().err


def test_the_summary_of_times_and_of_accuracies():
    fast, slow = (
        SimpleNamespace(
            architecture=name,
            task="ct",
            stage="timing",
            status="ok",
            memory=None,
            accuracy=None,
            timing=SimpleNamespace(batch=4, training_step_seconds=[seconds, 9.0, seconds]),
        )
        for name, seconds in (("LUSER-SW", 0.5), ("DEQ4IP", 2.0))
    )
    assert summary.found([slow, fast], ["8GB"], "high") == "fastest training: 8.00 images/s (LUSER-SW on ct)"
    trained = SimpleNamespace(
        architecture="DEQ4IP",
        task="ct",
        stage="accuracy",
        status="ok",
        memory=None,
        timing=None,
        accuracy=SimpleNamespace(
            trainings=[
                SimpleNamespace(status="ok", psnr_db=[30.0, 32.0]),
                SimpleNamespace(status="diverged", psnr_db=[]),
            ]
        ),
    )
    assert summary.found([trained], [], "high") == "best PSNR: 31.00 dB (DEQ4IP on ct)"
    assert summary.counted([slow, fast, trained]) == "3 results (2 timing, 1 accuracy), 0 failed"
