"""Workers: one that dies costs the call it was at; each has a GPU for itself."""

import json
import os
import signal
import struct
import threading
import time
from pathlib import Path

import pytest

from bench.execution import workers
from bench.execution.workers import Died, message, side_by_side


def square(number):
    return number**2


def killed_at_2(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed(number):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number):
    raise ValueError(f"no {number}")


def leave(code):
    os._exit(code)


def occupy(folder: Path):
    """The GPU that this worker sees; that there is a second call on it at the same time is a FileExistsError."""
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    (folder / gpu).touch(exist_ok=False)
    time.sleep(0.05)
    (folder / gpu).unlink()
    return gpu


def calls(*numbers):
    return {f"call {number}": (number,) for number in numbers}


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_call_gives_its_result(processes):
    found = dict(side_by_side(square, calls(1, 2, 3), processes))
    assert found == {"call 1": 1, "call 2": 4, "call 3": 9}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_worker_costs_one_call(processes):
    found = dict(side_by_side(killed_at_2, calls(1, 2, 3, 4), processes))
    assert found == {"call 1": 1, "call 2": Died(-signal.SIGKILL), "call 3": 3, "call 4": 4}
    assert str(found["call 2"]) == "its process was killed (signal 9), perhaps because memory ran out"


def test_when_every_call_kills_its_worker_all_come_back():
    found = dict(side_by_side(killed, calls(1, 2, 3), 2))
    assert found == dict.fromkeys(["call 1", "call 2", "call 3"], Died(-signal.SIGKILL))


def itself(_):
    return os.getpid()


def end(pid):
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


def test_a_worker_that_dies_with_nothing_to_do_costs_no_call():
    results = side_by_side(itself, calls(1, 2), 1)
    _, first = next(results)
    end(first)
    ((key, second),) = results
    assert key == "call 2" and second not in (first, Died(-signal.SIGKILL))


def test_a_worker_that_dies_before_it_reads_its_call_costs_that_call():
    """The way to it is reset then, which is another error than that of a way that is closed."""
    results = side_by_side(itself, calls(1, 2, 3), 1)
    _, first = next(results)
    os.kill(first, signal.SIGSTOP)
    timer = threading.Timer(0.3, os.kill, (first, signal.SIGKILL))
    timer.start()
    assert next(results) == ("call 2", Died(-signal.SIGKILL))
    ((key, third),) = results
    assert key == "call 3" and third != first


def half_an_answer(_):
    """The length of a message, and a part of it."""
    os.write(workers._parent.fileno(), struct.pack("!i", 1000) + b"part")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_in_the_middle_of_an_answer_costs_its_call():
    assert dict(side_by_side(half_an_answer, calls(1), 1)) == {"call 1": Died(-signal.SIGKILL)}


def test_other_ends_are_told_apart():
    ((_, died),) = side_by_side(leave, calls(7), 2)
    assert str(died) == "its process died (exit code 7)"
    assert str(Died(-signal.SIGSEGV)) == "its process died (signal 11, SIGSEGV)"


def tell_and_square(number):
    message(number)
    message("half way")
    return number**2


def test_messages_of_a_call_are_heard_before_its_result():
    heard = []
    for key, result in side_by_side(
        tell_and_square, calls(3, 4), 2, listener=lambda key, content: heard.append((key, content))
    ):
        heard.append((key, result))
    assert [each for each in heard if each[0] == "call 3"] == [("call 3", 3), ("call 3", "half way"), ("call 3", 9)]
    assert len(heard) == 6


def test_an_error_comes_back_as_it_is():
    with pytest.raises(ValueError, match="no 1"):
        list(side_by_side(fail, calls(1), 2))


def test_workers_end_with_their_reader():
    def children():
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before = children()
    results = side_by_side(square, calls(1, 2, 3), 2)
    next(results)
    assert len(children() - before) == 2
    results.close()
    assert children() == before


def test_one_call_at_a_time_on_each_gpu(tmp_path):
    gpus = ["0", "3", "GPU-8f"]
    found = dict(side_by_side(occupy, dict.fromkeys(range(9), (tmp_path,)), 3, gpus=gpus))
    assert len(found) == 9
    assert set(found.values()) == set(gpus)


def test_no_more_gpus_than_processes(tmp_path):
    found = dict(side_by_side(occupy, dict.fromkeys(range(2), (tmp_path,)), 1, gpus=["4", "5"]))
    assert set(found.values()) == {"4"}


def die_once(mark: Path):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_the_gpu_of_a_killed_worker_is_used_again(tmp_path):
    found = list(side_by_side(die_once, dict.fromkeys(range(2), (tmp_path / "mark",)), 1, gpus=["6"]))
    assert found == [(0, Died(-signal.SIGKILL)), (1, "6")]


def test_what_recordings_need_is_imported_before_the_workers_are_forked(bench, monkeypatch):
    from bench.stages import memory

    processes = []
    monkeypatch.setattr(memory, "prepare", lambda: processes.append(os.getpid()))
    assert bench("run", "--jobs", "2", "--architecture", "LUSER-SW", "--stages", "memory").returncode == 0
    assert processes == [os.getpid()]


def test_a_killed_cell_becomes_a_failed_record_and_the_others_are_kept(bench, tmp_path, monkeypatch):
    """The whole command: a worker is killed in the midst of a cell."""
    from bench.stages import memory

    measure = memory.measure

    def killed_on_knee(cell, earlier, folder):
        if cell.task == "knee":
            os.kill(os.getpid(), signal.SIGKILL)
        return measure(cell, earlier, folder)

    with monkeypatch.context() as patched:
        patched.setattr(memory, "measure", killed_on_knee)
        result = bench("run", "--jobs", "2", "--architecture", "LUSER-SW")
    assert result.returncode == 3
    reason = "its process was killed (signal 9), perhaps because memory ran out"
    assert f"1 of 2 cells failed: LUSER-SW on knee: {reason}" in result.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "results/runs/records").glob("*.json")]
    assert {(record["task"], record["reason"]) for record in records} == {("blur", None), ("knee", reason)}

    again = bench("run", "--jobs", "2", "--architecture", "LUSER-SW")
    assert again.returncode == 0
    assert "1 of 2 cells taken from" in again.stderr

    (path,) = (tmp_path / "results/runs/records").glob("knee--*.json")
    good = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(memory, "measure", killed_on_knee)
        assert bench("run", "--jobs", "2", "--architecture", "LUSER-SW", "--gpu-cap", "4GB").returncode == 3
    assert path.read_bytes() == good  # a failure on another card costs nothing of what was known


@pytest.mark.parametrize(
    ("listed", "count", "expected"),
    [(None, 3, ["0", "1", "2"]), ("", 1, ["0"]), ("4,GPU-8f", 2, ["4", "GPU-8f"]), ("2,3", 1, ["2"]), (None, 0, [])],
)
def test_gpus_are_named_as_cuda_visible_devices_names_them(monkeypatch, listed, count, expected):
    torch = pytest.importorskip("torch")
    from bench.execution import devices

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert devices.visible_gpus() == expected


def test_cells_share_out_gpus_only_if_they_run_on_them(monkeypatch, tmp_path):
    from bench.cells import suite
    from bench.commands.measuring import _side_by_side
    from bench.config import load
    from bench.execution import devices

    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)

    def gpus(stage, **given):
        return suite.gpus(suite.cells(load(given=given), stage=stage))

    assert gpus("memory") == []
    assert gpus("memory", memory={"engine": "cuda"}) == ["0", "1"]
    assert gpus("timing") == gpus("accuracy") == ["0", "1"]
    assert gpus("timing", timing={"device": "cpu"}) == []
    assert _side_by_side("timing", None, ["0", "1"]) == _side_by_side("memory", 8, ["0", "1"]) == 2
    assert _side_by_side("timing", 8, []) == _side_by_side("accuracy", 1, ["0", "1"]) == 1
    assert _side_by_side("memory", 8, []) == 8
