"""The virtual engine and its process, with stand-ins for the card and for the process."""

import gc
import json
import os
import pickle
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, card_of_capacity, largest_batch
from bench.memory.gpus import Card
from bench.memory.measuring.cuda import Measurement, ProbeFailedError
from bench.memory.measuring.isolated import IsolatedError
from bench.memory.trace import Workspace
from bench.units import GiB, MiB
from bench.virtual import NoVirtualCardError, VirtualDevice, VirtualEngine, VirtualMeasurement, device
from bench.virtual.figures import figures, kernels_of

CARD = CARDS["RTX 3080"]


def make_step(batch, device):
    return lambda: None


class Linear:
    """A card on which a step takes 100 MiB an image."""

    def __init__(self):
        self.trials = []

    def measure(self, trial):
        self.trials.append(trial)
        needed = trial.batch * 100 * MiB
        fits = needed <= trial.limit_bytes
        return Measurement(
            fits, needed, needed, 0, 2 if not fits else 1, trial.limit_bytes, None, None, "virtual", "2", 1
        )


def test_the_engine_searches_from_its_first_guess():
    card = Linear()
    engine = VirtualEngine(make_step, CARD, first_guess=90, device=card)
    boundary = largest_batch(engine)
    assert boundary.batch == CARD.usable_bytes // (100 * MiB) == 95
    assert engine.name == "virtual"
    assert card.trials[0].batch == 90 and {trial.steps for trial in card.trials} == {2}
    assert boundary.at_edge.fallbacks == 1  # allocations that failed in silence
    assert engine.probes[96].fallbacks == 1


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Let the process of the virtual card run this code: `answer(task)` is what it sends back."""

    def process(code):
        (tmp_path / "stand_in_worker.py").write_text(
            "import os, pickle, sys, time\n"
            "from multiprocessing.connection import Connection\n"
            "from bench.virtual.device import Failed\n"
            + textwrap.dedent(code)
            + "connection = Connection(int(sys.argv[1]))\n"
            "connection.send('ready')\n"
            "while True:\n"
            "    try:\n"
            "        content = connection.recv_bytes()\n"
            "    except EOFError:\n"
            "        break\n"
            "    connection.send(answer(pickle.loads(content)))\n"
        )
        return VirtualDevice(CARD, timeout_seconds=20)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(device, "WORKER", "stand_in_worker")
    monkeypatch.setattr(device, "environment", dict)
    device._Process.end()
    yield process
    device._Process.end()


def measure(card, batch=2):
    engine = VirtualEngine(make_step, CARD, device=card)
    engine.probe(batch)


def test_one_process_carries_out_all_trials(process):
    card = process(
        """
        def answer(task):
            return Failed(f"{os.getpid()} {task.trial.batch} {task.figures.name} {task.figures.numbers['major']}")
        """
    )
    said = []
    for batch in (2, 7):
        with pytest.raises(ProbeFailedError, match=f"the probe of batch {batch} under RTX 3080 failed: ") as error:
            measure(card, batch)
        said.append(str(error.value).split("failed: ")[1].split(" ", 1))
    assert [rest for _, rest in said] == ["2 NVIDIA GeForce RTX 3080 8", "7 NVIDIA GeForce RTX 3080 8"]
    assert said[0][0] == said[1][0] != str(os.getpid())


def test_a_process_that_dies_is_said_and_replaced(process):
    card = process(
        """
        def answer(task):
            if task.trial.batch == 2:
                os._exit(7)
            return Failed("another one")
        """
    )
    with pytest.raises(ProbeFailedError, match=r"its process died \(exit code 7\)"):
        measure(card, 2)
    with pytest.raises(ProbeFailedError, match="another one"):
        measure(card, 3)


def test_a_process_that_died_with_nothing_to_do_is_said_and_replaced(process):
    card = process("def answer(task):\n    return Failed('an answer')\n")
    with pytest.raises(ProbeFailedError, match="an answer"):
        measure(card)
    device._Process._running._popen.kill()
    device._Process._running._popen.wait()
    with pytest.raises(ProbeFailedError, match=r"its process died \(exit code -9\)"):
        measure(card)
    with pytest.raises(ProbeFailedError, match="an answer"):
        measure(card)


def test_a_process_that_hangs_is_stopped(process):
    card = process(
        """
        def answer(task):
            time.sleep(1000)
        """
    )
    card._timeout_seconds = 0.1
    with pytest.raises(ProbeFailedError, match="gave no answer within 0 s and was stopped"):
        measure(card)


def test_a_step_that_cannot_travel_is_said(process):
    card = process("answer = None\n")
    engine = VirtualEngine(lambda batch, device: None, CARD, device=card)
    with pytest.raises(ProbeFailedError, match="the step cannot be sent to another process: "):
        engine.probe(1)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process where Linux lists it")
def test_the_process_ends_with_its_parent(process, tmp_path):
    process("def answer(task):\n    return Failed(str(os.getpid()))\n")
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal\n"
        "from bench.memory import CARDS\n"
        "from bench.virtual import device\n"
        "device.WORKER, device.environment = 'stand_in_worker', dict\n"
        "process = device._Process.running({})\n"
        "print(process._popen.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    child = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 20
    while child.is_dir() and "zombie" not in (child / "status").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_dir() or "zombie" in (child / "status").read_text()


def test_modules_of_bench_that_a_task_names_are_loaded_once_and_no_others(monkeypatch, tmp_path):
    from bench.virtual import worker

    (tmp_path / "users_own.py").write_text("def make_step(batch, device): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    import users_own

    from bench import units

    content = pickle.dumps([users_own.make_step, units.format_bytes, "bench.no.module"])
    for name in ("users_own", "bench.units"):
        monkeypatch.delitem(sys.modules, name)
    worker._import_ours(content)
    gc.unfreeze()
    assert "bench.units" in sys.modules and "users_own" not in sys.modules


def test_figures_are_those_that_cudnn_is_told():
    numbers, name, _ = figures(CARD)
    assert name == "NVIDIA GeForce RTX 3080"
    assert numbers["total_bytes"] == CARD.total_bytes and numbers["context_bytes"] == CARD.context_bytes
    assert numbers["multiprocessors"] == 68 and numbers["threads_per_multiprocessor"] == 1536
    shared = {
        card.compute_capability: figures(card).numbers["shared_bytes_per_multiprocessor"]
        for card in CARDS.values()
        if not card.refusal
    }
    expected = {(7, 5): 64, (8, 0): 164, (8, 6): 100, (8, 9): 100, (9, 0): 228, (12, 0): 100}  # KiB, CUDA's own table
    assert shared == {capability: 1024 * size for capability, size in expected.items()}


def test_a_bare_capacity_has_a_stated_cards_kernels():
    card = card_of_capacity("24GB")
    assert kernels_of(card) is CARDS["RTX 3080"] and kernels_of(CARDS["H200"]) is CARDS["H200"]
    assert figures(card).numbers["total_bytes"] == 24 * GiB
    assert figures(card).numbers["multiprocessors"] == 68


def test_a_card_without_known_properties_is_one_sentence():
    with pytest.raises(NoVirtualCardError, match="the virtual engine does not know RTX 9999's properties"):
        figures(Card("RTX 9999", GiB, MiB, (8, 6), 10, "made up"))


def test_records_say_engine_card_and_cudnn(bench, monkeypatch, tmp_path):
    """From the command to the record, on a card that takes 2 GiB whatever the batch below 5."""

    class Small:
        def __init__(self, card):
            assert card.name == "RTX 3080"

        def measure(self, trial):
            fits = trial.batch < 5
            seen = (fits, GiB, 2 * GiB, 0, not fits, trial.limit_bytes, None, None, "virtual", "2", 92400)
            return VirtualMeasurement(
                *seen, values_read=3, selections=0, lower_bounds=("cusolverDnSgesvdj_bufferSize",)
            )

    monkeypatch.setattr("bench.commands.measuring.virtual_cards", lambda cards: None)
    monkeypatch.setattr("bench.virtual.engine.VirtualDevice", Small)
    result = bench(
        *("run", "--engine", "virtual", "--gpu", "RTX 3080", "--stages", "memory", "--json"),
        *("--architecture", "LUSER-SW", "--task", "deblurring", "--jobs", 1),
    )
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(result.stdout)
    memory = record["memory"]
    assert memory["engine"] == "virtual"
    (card,) = memory["cards"]
    assert card["card"] == "RTX 3080" and card["cudnn"] == "9.24.0"
    assert card["edges"] == {
        "exact": {
            "largest_batch": 4,
            "peak_allocated_bytes": GiB,
            "peak_reserved_bytes": 2 * GiB,
            "retries": 0,
            "fallbacks": 0,
            "not_fitting": card["edges"]["exact"]["not_fitting"],
            "monotone": True,
        }
    }
    assert set(card["edges"]["exact"]["not_fitting"]) >= {5, 6}
    assert card["virtual"] == {
        "kernels_of": "RTX 3080",
        "values_read": 3,
        "selections": 0,
        "lower_bounds": ["cusolverDnSgesvdj_bufferSize"],
        "upper_bounds": [],
    }
    assert (
        f"bench: virtual card: torch {torch.__version__}, cuDNN 9.24.0, kernels of RTX 3080; a step reads at most 3 "
        "values, which are zeros, and selects by value at most 0 times, which gives nothing; "
        "lower bounds: cusolverDnSgesvdj_bufferSize\n"
    ) in result.stderr


def test_a_step_with_ffts_has_a_low_and_a_high_answer(bench, monkeypatch):
    """Whose work areas take room for one image at most."""

    class Unsure:
        def __init__(self, card, work_areas=Workspace.HIGH):
            self.most = 4 + (work_areas is Workspace.LOW)
            self.upper_bounds = ("cufftXtMakePlanMany",) if work_areas is Workspace.HIGH else ()

        def measure(self, trial):
            fits = trial.batch <= self.most
            seen = (fits, GiB, 2 * GiB, 0, not fits, trial.limit_bytes, None, None, "virtual", "2", 92400)
            return VirtualMeasurement(
                *seen, values_read=0, selections=0, lower_bounds=(), upper_bounds=self.upper_bounds
            )

    monkeypatch.setattr("bench.commands.measuring.virtual_cards", lambda cards: None)
    for module in ("bench.virtual.engine", "bench.stages.memory"):
        monkeypatch.setattr(f"{module}.VirtualDevice", Unsure)
    result = bench(
        *("run", "--engine", "virtual", "--gpu", "RTX 3080", "--stages", "memory", "--json"),
        *("--architecture", "LUSER-SW", "--task", "mri", "--jobs", 1),
    )
    assert result.returncode == 0, result.stderr
    (card,) = json.loads(result.stdout)[0]["memory"]["cards"]
    assert {bound: edge["largest_batch"] for bound, edge in card["edges"].items()} == {"low": 5, "high": 4}
    assert card["virtual"]["upper_bounds"] == ["cufftXtMakePlanMany"]
    assert "which gives nothing; low and high bounds: cufftXtMakePlanMany\n" in result.stderr


def test_isolated_errors_are_not_answers():
    class Lost:
        def measure(self, trial):
            raise IsolatedError("lost")

    with pytest.raises(ProbeFailedError, match="the probe of batch 1 under RTX 3080 failed: lost"):
        VirtualEngine(make_step, CARD, device=Lost()).probe(1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected a card and a script, such as: python -m bench.virtual 'RTX 3080' train.py"),
        (["RTX 3080", "nowhere.py"], "there is no file nowhere.py to run"),
        (["RTX 3080", "."], "there is no file . to run"),
        (["RTX 1", __file__], "unknown card"),
        (["RTX 3080", __file__], "the virtual engine needs a CUDA build of PyTorch"),
    ],
)
def test_a_script_that_cannot_run_is_one_sentence(monkeypatch, capsys, arguments, says):
    from bench.virtual.__main__ import main

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "argv", ["bench.virtual", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"bench: {says}")
