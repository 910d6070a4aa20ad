"""How a command ends when something else ends it: faults of ours, signals, readers that go away, full streams."""

import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import SIGNALS
from processes import COMMAND, signals_as_in_a_terminal, stopped

from bench.execution.workers import WorkerError, side_by_side

LINE = re.compile(r"bench: (interrupted|terminated)[^\n]*\n")
FULL = Path("/dev/full")


def reported(result, folder):
    """The file of a fault, which its one sentence names."""
    assert result.returncode == 70
    (path,) = folder.glob("bench-fault-*")
    assert result.stderr.count("\n") == 1
    assert f"please report it, with {path}, which has the traceback" in result.stderr
    return path.read_text()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def broken(monkeypatch):
    """Let `bench list` raise what is given."""

    def broken(error):
        def raise_it():
            raise error

        monkeypatch.setattr("bench.models.names", raise_it)

    return broken


def test_a_command_within_the_tests_leaves_their_signals_alone(bench):
    before = [signal.getsignal(number) for number in SIGNALS]
    assert bench("list").returncode == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("division\nby zero"), "a fault of bench itself, and not of yours (ZeroDivisionError: "),
        (MemoryError(), "memory ran out (MemoryError), which fewer --jobs or smaller sizes may mend; if not, "),
        (RecursionError("too deep"), "(RecursionError: too deep)"),
        (SystemExit(1), "(SystemExit: 1)"),
        (BrokenPipeError(32, "Broken pipe"), "(SystemExit: 1)"),  # not stdout's: a worker's, say
        (GeneratorExit(), "(GeneratorExit)"),
    ],
)
def test_a_fault_is_70_one_sentence_and_a_file(bench, broken, temporary, error, words):
    broken(error)
    result = bench("list")
    assert words in result.stderr
    report = reported(result, temporary)
    assert "command: bench list\n" in report
    assert "torch 2." in report
    assert "in raise_it" in report
    assert type(error).__name__ in report


def test_debug_prints_the_traceback_wherever_it_stands(bench, broken, temporary):
    broken(ZeroDivisionError())
    for arguments in (("--debug", "list"), ("list", "--debug")):
        result = bench(*arguments)
        assert result.returncode == 70
        assert result.stderr.startswith("Traceback (most recent call last):\n")
        assert "in raise_it" in result.stderr
    assert len(list(temporary.iterdir())) == 2  # and none is overwritten
    assert "in raise_it" not in bench("list", "--", "--debug").stderr  # that is no option


def test_without_a_place_for_the_file_the_traceback_is_said(bench, broken, monkeypatch):
    def none(**_):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.mkstemp", none)
    broken(ZeroDivisionError())
    result = bench("list")
    assert result.returncode == 70
    assert "please report it, with this:\ncommand: bench list\n" in result.stderr
    assert "in raise_it" in result.stderr


def test_an_import_that_fails_is_a_fault_too(bench, monkeypatch, temporary):
    monkeypatch.setitem(sys.modules, "bench.memory.gpus", None)
    assert "ModuleNotFoundError" in reported(bench("list"), temporary)


def test_a_file_that_the_system_refuses_is_no_fault_of_ours(bench, broken):
    broken(OSError(36, "File name too long", "x" * 300))
    result = bench("list")
    assert result.returncode == 2
    assert result.stderr == f"bench: cannot use {'x' * 197}...: File name too long\n"


class OddError(Exception):
    """One that comes back from a pickle as another exception."""

    def __init__(self, one, two):
        super().__init__(one)


def fail(error):
    raise error


def test_a_workers_exception_brings_its_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        list(side_by_side(fail, {0: (ZeroDivisionError("by zero"),)}, 1))
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(OddError(1, 2)))


def fail_oddly():
    raise OddError("odd", 2)


def test_a_workers_exception_that_does_not_pickle_is_told():
    with pytest.raises(WorkerError, match="OddError: odd") as caught:
        list(side_by_side(fail_oddly, {0: ()}, 1))
    assert "in fail_oddly" in str(caught.value.__cause__)


def test_a_module_can_be_run_as_the_command_is():
    done = subprocess.run([*COMMAND, "walk"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: bench [OPTIONS] COMMAND")


LITTLE, MUCH = ["--version"], ["run", "--help"]


@pytest.mark.parametrize("arguments", [LITTLE, MUCH])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_ends_it_as_sigpipe_does(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        preexec_fn=signals_as_in_a_terminal,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_74_and_one_sentence_and_a_full_stderr_is_nothing(unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with FULL.open("w") as full:
        done = subprocess.run([*COMMAND, *LITTLE], stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
        assert (done.returncode, done.stderr) == (74, b"bench: cannot write to stdout: No space left on device\n")
        assert subprocess.run([*COMMAND, *LITTLE], stdout=full, stderr=full, env=environment).returncode == 74
        assert subprocess.run([*COMMAND, "walk"], stderr=full, env=environment).returncode == 2


@pytest.mark.parametrize(("redirections", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">&- walk", 2)])
def test_closed_streams(tmp_path, redirections, code):
    command = " ".join([sys.executable, "-m", "bench", *(() if "walk" in redirections else LITTLE), redirections])
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


BASELINE = Path(__file__).parents[2] / "results/baseline.json"
CELL = ["explain", "--architecture", "LUSER-SW", "--task", "ct"]


@pytest.mark.parametrize(
    ("arguments", "module", "times"),
    [
        (["list"], "bench.streams", 1),
        (["list"], "torch._C", 2),
        (["run", "--stages", "memory"], "bench.cells.workload", 2),
        (CELL, "bench.memory.explaining.sources", 1),
    ],
)
def test_an_interrupt_is_130_and_one_line(tmp_path, arguments, module, times):
    end = stopped(arguments, tmp_path, imported=module, times=times)
    assert (end.returncode, end.survivors) == (130, False)
    assert LINE.fullmatch(end.stderr), end.stderr


def test_a_termination_is_143_and_one_line(tmp_path):
    end = stopped(["list"], tmp_path, imported="typer", number=signal.SIGTERM)
    assert (end.returncode, end.survivors) == (143, False)
    assert end.stderr.startswith("bench: terminated")
    assert LINE.fullmatch(end.stderr)


def test_an_interrupt_that_became_another_exception_is_one_still(bench, monkeypatch):
    """As where a library calls back, and the caller of the callback catches everything."""

    def swallow():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("a callback failed") from None

    monkeypatch.setattr("bench.models.names", swallow)
    ends = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell sets aside for what runs in the background
    monkeypatch.setattr("bench.stopping.Stopping.end", lambda stopping: ends.append(stopping.exit_code))
    monkeypatch.setattr("bench.stopping.GRACE_SECONDS", 10**6)
    result = bench("list")
    assert (result.returncode, ends) == (130, [130])
    assert LINE.fullmatch(result.stderr)


def test_an_interrupt_without_a_signal_is_said_too(bench, broken):
    """As where a step of the user's raises it."""
    broken(KeyboardInterrupt())
    result = bench("list")
    assert (result.returncode, result.stdout) == (130, "")
    assert LINE.fullmatch(result.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--stages", "memory"],
        CELL,
        ["check", "--baseline", str(Path(__file__).parents[2] / "results/baseline.json")],
    ],
    ids=["run", "explain", "check"],
)
def test_a_signal_at_any_moment(tmp_path, arguments, number):
    for tenth in range(0, 31, 2):
        end = stopped(
            arguments, tmp_path, imported="bench.streams", seconds=tenth / 10, number=number, times=1 + tenth % 3
        )
        if end.returncode != 0:  # a fast machine may be through
            assert (end.returncode, end.survivors) == (128 + number, False), (tenth, end)
            assert LINE.fullmatch(end.stderr), (tenth, end)
