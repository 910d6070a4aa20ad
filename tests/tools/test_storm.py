"""The storm: a very small one finds nothing, and each of its checks notices a command that does what it must not."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import bench.cli
from tools.storm import kills, rules
from tools.storm.__main__ import storm
from tools.storm.cases import Case, Content, tried
from tools.storm.command import End, Running
from tools.storm.drawn import Drawn
from tools.storm.kills import Kill, Undisturbed, difference, results
from tools.storm.sandbox import Sandbox


@pytest.mark.slow
def test_a_very_small_storm_finds_nothing(tmp_path):
    totals = storm(
        tmp_path, 12, 1, 1, jobs=2, seed=3, ready=[("run", "--stages", "memory")], kinds=("options", "configs")
    )
    assert (totals.number("inputs"), totals.number("kills"), totals.number("pairs")) == (12, 1, 1)
    assert not totals.faults, "\n".join(totals.lines())


@pytest.mark.slow
def test_the_whole_storms_results_can_be_made(tmp_path):
    assert storm(tmp_path, 0, 0, 0, jobs=1, seed=3).number("inputs") == 0


@pytest.mark.parametrize(
    ("verb", "code", "stdout", "stderr", "expected"),
    [
        ("run", 0, "", "", []),
        ("run", 2, "", "bench: no such task\n", []),
        ("run", 2, "", "Usage: bench run\nTry 'bench run --help' for help.\n\nError: No such option: -x\n", []),
        ("check", 1, "ct: worse", "bench: 1 of 2 cells is worse\n", []),
        ("check", 1, "ct: same", "bench: 1 of 2 cells\n", ["check: exit code 1 without a verdict"]),
        ("run", 1, "worse", "bench: worse\n", ["run: exit code 1"]),
        ("run", 70, "", "bench: report it\n", ["run: exit code 70"]),
        ("run", -9, "", "bench: killed\n", ["run: ended by signal 9"]),
        ("run", None, "", "", ["run: does not end"]),
        ("run", 2, "", "", ["run: exit code 2 without a sentence at the end"]),
        ("run", 2, "", "bench: one\ntwo\nbench: three\n", ["run: a line of stderr is not ours: two"]),
        ("run", 0, "", "Exception ignored in: x\n", ["run: 'Exception ignored' on stderr"]),
        ("run", 0, "", "bench: \x1b[31mred\n", ["run: control characters on stderr"]),
        ("run", 0, "", f"bench: {'x' * 5000}\n", ["run: a line of stderr is longer than 4000 characters"]),
        (
            "run",
            70,
            "",
            'Traceback (most recent call last):\n  File "/x/bench/cells/cell.py", line 3, in key\n    a\nKeyError: 3\n',
            ["run: traceback, KeyError in cells/cell.py, key"],
        ),
    ],
)
def test_how_a_command_may_end(verb, code, stdout, stderr, expected):
    assert list(rules.faults(verb, End(code, stdout, stderr, 1.0))) == expected


def test_a_full_stdout_is_no_success():
    ends = {
        code: list(rules.faults("list", End(code, "", "bench: full\n", 1.0), stdout_is_full=True)) for code in (0, 74)
    }
    assert ends == {0: ["list: exit code 0"], 74: []}


def overwrite_what_is_beside():
    Path("../../../user/notes.txt").write_text("gone")


def write_beside():
    Path("../../../mine").touch()


def overwrite_the_project():
    Path("notes.txt").write_text("gone")


def remove_a_record():
    Path("results/runs/records/a.json").unlink()


def leave_a_temporary():
    Path(".x.json.abcdefgh").touch()


def leave_a_process():
    if not os.fork():
        time.sleep(60)


def fail():
    raise KeyError("x")


def exit_70():
    print("bench: report it", file=sys.stderr)
    sys.exit(70)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda: None, ()),
        (overwrite_what_is_beside, ("list: a file beside the project is changed",)),
        (write_beside, ("list: writes outside the project",)),
        (overwrite_the_project, ("list: a .txt file of the project is lost or overwritten",)),
        (remove_a_record, ("list: a record of the project is lost or overwritten",)),
        (leave_a_temporary, ("list: leaves a temporary file",)),
        (leave_a_process, ("list: leaves a process behind",)),
        (exit_70, ("list: exit code 70",)),
    ],
)
def test_what_a_command_must_not_do(tmp_path, monkeypatch, what, expected):
    template = Sandbox(tmp_path / "template").project
    monkeypatch.setattr(bench.cli, "main", what)
    case = Case("list", contents=(Content("results/runs/records/a.json", b"{}"),))
    assert tried(case, tmp_path / "root", template).faults == expected


def test_an_uncaught_exception_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.cli, "main", fail)
    (fault,) = tried(Case("list"), tmp_path / "root", Sandbox(tmp_path / "template").project).faults
    assert fault.startswith("list: traceback, KeyError")


def test_a_damaged_file_has_to_be_named_and_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.cli, "main", lambda: (print("bench: no", file=sys.stderr), sys.exit(2)))
    template = Sandbox(tmp_path / "template").project
    faults = tried(Case("report", refused="results/a.json"), tmp_path / "root", template).faults
    assert faults == ("report: a damaged file is not named",)
    monkeypatch.setattr(bench.cli, "main", lambda: (print("bench: a.json", file=sys.stderr), sys.exit(2)))
    faults = tried(Case("report", refused="results/a.json"), tmp_path / "root", template).faults
    assert faults == ("report: one damaged file, and nothing of the others (exit code 2)",)


def test_work_is_interrupted_and_told_from_waiting(tmp_path, monkeypatch):
    def work():
        try:
            while True:
                pass
        except KeyboardInterrupt:
            sys.exit(130)

    monkeypatch.setattr("tools.storm.cases.WORK_SECONDS", 1.0)
    monkeypatch.setattr("tools.storm.cases.PATIENCE_SECONDS", 0.5)
    template = Sandbox(tmp_path / "template").project
    monkeypatch.setattr(bench.cli, "main", work)
    assert tried(Case("run"), tmp_path / "root", template).how == "at work"
    monkeypatch.setattr(bench.cli, "main", lambda: open("fifo").close())
    assert "run: does not end" in tried(Case("run"), tmp_path / "root", template).faults


def test_a_kill_that_costs_a_record_is_noticed(tmp_path, monkeypatch):
    def forget():
        Path("out/records").mkdir(parents=True, exist_ok=True)
        Path("out/.a.json.abcdefgh").touch()

    monkeypatch.setattr(bench.cli, "main", forget)
    sandbox = Sandbox(tmp_path / "root")
    kill = Kill(("run",), "SIGKILL", 0.0, is_new_process=False)
    _, faults = kills.stopped(kill, Undisturbed(0.0, {"a.json": {}}), sandbox)
    assert faults == [
        ("the records are not those of a run that nobody stops", "no a.json"),
        ("a temporary file stays, after the same command again too", "a/b/project/out/.a.json.abcdefgh"),
    ]


def test_results_are_without_time_and_place(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text(
        '{"provenance": 2, "sequence": 3, "x": {"cards": [{"card": "8GB"}, {"card": "4GB", "seconds": 1}]}}'
    )
    found = results(tmp_path)
    assert found == {"a.json": {"x": {"cards": [{"card": "4GB"}, {"card": "8GB"}]}}}
    assert difference(found, {"a.json": {"x": 1}}) == "a.json: x differ"


def test_a_killed_command_ends_by_its_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.cli, "main", lambda: time.sleep(60))
    sandbox = Sandbox(tmp_path / "root")
    running = sandbox.start("list")
    assert isinstance(running, Running)
    running.signal(signal.SIGKILL)
    assert running.end(30).code == -9


@pytest.mark.parametrize("is_new_process", [False, True])
def test_what_has_ended_is_sent_no_signal(tmp_path, monkeypatch, is_new_process):
    """The system gives its number to another process."""
    running = Running(["--version"], tmp_path, os.environ, tmp_path / "logs", is_new_process=is_new_process)
    assert running.wait(60) == 0
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail(f"signal {number} is sent to {pid}"))
    running.signal(signal.SIGTERM)
    running.kill()


def test_every_verb_has_its_exit_codes(tmp_path):
    assert set(rules.CODES) == set(Drawn(tmp_path).verbs)
