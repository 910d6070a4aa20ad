"""bench fit as a user types it: steps as small files, answers counted by hand, one sentence where there is none."""

import json
import os
import re
import subprocess
import sys
from functools import partial

import pytest
import torch

from bench.fitting import OnDevice, Recorded, choice, fit
from bench.memory import CARDS, Card, NotRecordableError, card_of_capacity
from bench.memory.forms import as_make_step
from bench.memory.measuring.cuda import CudaEngine, Measurement
from bench.units import GiB, MiB
from bench.virtual import VirtualEngine, VirtualMeasurement

USABLE_MIB = 8 * 1024 - 500  # of 8GB, beside the assumed CUDA context

TRAIN = """
import sys
import torch
from torch import nn

assert len(sys.argv) == 1, sys.argv

def one_mib_each(batch, device):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)

def two_parts(batch, device):
    def step():
        held = [torch.empty(count * batch, 2**20, dtype=torch.uint8, device=device) for count in (1, 2)]

    return step

def by_default(batch, device="meta", rate=1e-3):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)

def says_where(batch, rate=1e-3):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device="meta")

def itself(batch):
    torch.empty(batch, 2**20, dtype=torch.uint8, device="meta")

def train(batch, device):
    net = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)).to(device)
    optimizer = torch.optim.Adam(net.parameters())
    print("built")

    def step():
        print("stepped")
        optimizer.zero_grad()
        values = torch.rand(batch, 1024, device=device)
        net(values).square().mean().backward()
        optimizer.step()

    return step
"""


@pytest.fixture
def run(bench, tmp_path):
    """Run `bench fit ...` in a folder that holds these steps as train.py."""
    (tmp_path / "train.py").write_text(TRAIN)
    return partial(bench, "fit")


def answer_of(result):
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize("step", ["one_mib_each", "by_default", "says_where", "itself"])
def test_an_answer_counted_by_hand_in_every_form(run, step):
    told = answer_of(run(f"train.py:{step}", "--gpu-cap", "8GB,4GB", "--batch", "8", "--json"))
    assert (told["format"], told["step"], told["engine"]) == (1, f"train.py:{step}", "simulated")
    assert {card["card"]: card["largest_batch"] for card in told["cards"]} == {"8GB": USABLE_MIB, "4GB": 4096 - 500}
    first = told["cards"][0]
    assert first["peak_allocated_bytes"] == first["peak_reserved_bytes"] == first["usable_bytes"] == USABLE_MIB * MiB
    assert first["left_bytes"] == 0
    needed_bytes = 20 * MiB  # the segment of a request of up to 10 MiB
    left_bytes = USABLE_MIB * MiB - needed_bytes
    assert first["asked"] == {"batch": 8, "fits": True, "left_bytes": left_bytes, "needed_bytes": needed_bytes}


def test_a_batch_that_does_not_fit_lacks_so_much(run):
    told = answer_of(run("train.py:one_mib_each", "--gpu-cap", "8GB", "--batch", USABLE_MIB + 7, "--json"))
    asked = told["cards"][0]["asked"]
    assert (asked["fits"], asked["left_bytes"]) == (False, -8 * MiB)  # segments are of whole 2 MiB
    assert asked["needed_bytes"] == (USABLE_MIB + 8) * MiB
    made_of = told["made_of"]
    assert (made_of["peak_reserved_bytes"], made_of["failed_request_bytes"]) == ((USABLE_MIB + 8) * MiB, None)
    assert made_of["categories"]["free"] == -8 * MiB


def test_what_does_not_fit_is_told_of_whole(run):
    """The rows are of all that the batch would need, not of what is held where memory runs out: here, nothing."""
    asked = ("train.py:two_parts", "--gpu-cap", "8GB", "--batch", 9000)
    rows = answer_of(run(*asked, "--json"))["made_of"]["rows"]
    assert [(row["blocks"], row["size_bytes"] // MiB) for row in rows] == [(2, 27_000)]
    assert "train.py:two_parts, batch 9000, 8GB without a limit. At its peak: step " in run(*asked).stdout


def test_the_answer_stands_first_then_why_then_what_was_assumed(run):
    result = run("train.py:train", "--gpu", "RTX 3080", "--gpu-cap", "8GB", "--batch", "64")
    assert (result.returncode, result.stderr) == (0, "")
    header, _, *rest = result.stdout.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["card", "largest batch", "peak", "left", "usable"]
    order = ["| 8GB ", "| RTX 3080 ", "8GB: yes, batch 64 fits; ", "RTX 3080: yes, batch 64 fits; ", "| category "]
    order += [
        "train.py:train, batch 64, 8GB. At its peak: step 2, ",
        "Assumed:",
        "* CUDA's own context takes 500.00 MiB",
    ]
    places = [next(i for i, line in enumerate(rest) if line.startswith(start)) for start in order]
    assert places == sorted(places)
    breakdown = rest[places[4] + 2 : places[5] - 1]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in breakdown]
    assert len(lines) == 5
    # Two matrices of 16 MiB each, and two moments of Adam's for each; cuBLAS keeps 32 MiB for each thread.
    assert [(line[0], line[5]) for line in (lines[0], *lines[2:])] == [
        ("optimiser state", "64.00"),
        ("workspace", "32.00"),
        ("workspace", "32.00"),
        ("parameters", "32.00"),
    ]
    assert all(re.search(r"train\.py:\d+$", line[2]) for line in lines)
    assert "built" not in result.stdout and "stepped" not in result.stdout


def test_cards_of_the_configuration(run, tmp_path):
    (tmp_path / "bench.toml").write_text('[suite]\ngpu_caps = []\ngpus = ["mine"]\n[cards.mine]\ntotal = "3GiB"\n')
    told = answer_of(run("train.py:one_mib_each", "--json"))
    assert [(card["card"], card["largest_batch"]) for card in told["cards"]] == [("mine", 3 * 1024 - 500)]


def test_where_nothing_fits(run):
    result = run("train.py:one_mib_each", "--gpu-cap", "500.5MiB")
    assert result.returncode == 0
    assert "500.5MiB: batch 1 does not fit; it takes 2.00 MiB of 512.00 KiB" in result.stdout


def test_the_answer_as_a_page(run, tmp_path):
    answer = answer_of(run("train.py:two_parts", "--gpu-cap", "8GB", "--json", "--page", "answer.html"))
    text = (tmp_path / "answer.html").read_text()
    assert f"Largest batch: 8GB {answer['cards'][0]['largest_batch']:,}<" in text
    assert "<title>bench fit · train.py:two_parts</title>" in text
    assert "train.py:13" in text and "<script" not in text and "Engine: simulated" in text
    again = run("train.py:two_parts", "--page", "answer.html")
    assert (again.returncode, again.stderr.count("give --force")) == (2, 1)
    assert run("train.py:two_parts", "--page", "answer.txt").returncode == 2


def test_a_module_of_the_working_folder(run, tmp_path):
    (tmp_path / "somebodys_package").mkdir()
    (tmp_path / "somebodys_package" / "steps.py").write_text(TRAIN)
    told = answer_of(run("somebodys_package.steps:one_mib_each", "--gpu-cap", "8GB", "--json"))
    assert told["cards"][0]["largest_batch"] == USABLE_MIB


def test_a_file_finds_its_neighbours(run, tmp_path):
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "neighbour_of_a_step.py").write_text("SIZE = 2**20\n")
    (folder / "train.py").write_text(
        TRAIN.replace("2**20", "SIZE").replace("import sys", "from neighbour_of_a_step import SIZE\nimport sys")
    )
    told = answer_of(run("below/train.py:one_mib_each", "--gpu-cap", "8GB", "--json"))
    assert told["cards"][0]["largest_batch"] == USABLE_MIB


def test_the_environments_allocator_options_are_obeyed(run, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    result = run("train.py:one_mib_each", "--gpu-cap", "8GB", "--batch", "8", "--json")
    told = json.loads(result.stdout)
    said = [each["what"] for each in told["assumed"]]
    assert "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment is obeyed, as on the card" in said
    assert told["cards"][0]["asked"]["needed_bytes"] == 20 * MiB


def test_compilation_is_said(run, tmp_path):
    (tmp_path / "compiled.py").write_text(
        TRAIN.replace("    def step():", "    net = torch.compile(net)\n\n    def step():")
    )
    told = answer_of(run("compiled.py:train", "--gpu-cap", "8GB", "--json"))
    assert sum("torch.compile is not recorded" in each["what"] for each in told["assumed"]) == 1
    plain = answer_of(run("train.py:train", "--gpu-cap", "8GB", "--json"))
    assert told["cards"] == plain["cards"]


HEAD = "import torch\n"
BAD = {
    "syntax": ("def make_step(batch, device:\n", "cannot be imported: SyntaxError: .* \\(bad.py:1: `def make_step"),
    "import": (
        "import no_such_thing\n",
        "ModuleNotFoundError: No module named 'no_such_thing' \\(bad.py:1: `import no_",
    ),
    "ends": (
        "raise SystemExit(3)\n",
        "ends the program \\(bad.py:1: `raise SystemExit\\(3\\)`\\): what trains belongs",
    ),
    "none": ("def other(): ...\n", "has no function make_step: it has other"),
    "number": ("make_step = 3\n", "make_step is no function: it is int"),
    "arguments": (
        HEAD + "def make_step(): ...\n",
        r"bad.py:2: make_step\(\) is no step: expected make_step\(batch, dev",
    ),
    "many": ("def make_step(a, b, c): ...\n", r"bad.py:1: make_step\(a, b, c\) is no step"),
    "module": (
        HEAD + "def make_step(batch, device):\n    return torch.nn.Linear(3, 3)\n",
        "bad.py:2: make_step returned a module, Linear: it must return one training step",
    ),
    "text": (HEAD + "def make_step(batch, device):\n    return 'abc'\n", "bad.py:2: make_step returned 'abc': it must"),
    "raises": (
        HEAD + "def make_step(batch, device):\n    raise KeyError('no such set')\n",
        r"fails: KeyError: 'no such set' \(bad.py:3, in make_step: `raise KeyError\('no such set'\)`\)",
    ),
    "fails": (
        HEAD
        + "def make_step(batch, device):\n    def step():\n"
        + "        return torch.nn.Linear(3, 4, device=device)(torch.rand(batch, 5, device=device))\n    return step\n",
        r"fails: RuntimeError: .*\(bad.py:4, in step: `return torch.nn.Linear.*`; raised at torch/",
    ),
    "exits": (
        HEAD + "def make_step(batch, device):\n    def step():\n        raise SystemExit('done')\n    return step\n",
        r"fails: SystemExit: done \(bad.py:4, in step",
    ),
    "value": (
        HEAD + "def make_step(batch, device):\n    return lambda: torch.rand(batch, device=device).unique()\n",
        r"cannot be recorded: .*\(bad.py:3, in <lambda>: `return lambda",
    ),
    "nothing": (
        HEAD + "def make_step(batch, device):\n    return lambda: torch.rand(8, device=device)\n",
        "cannot be recorded: nothing that the step allocates on `device` grows with the batch",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_sentence_with_the_line(run, tmp_path, name):
    program, sentence = BAD[name]
    (tmp_path / "bad.py").write_text(program)
    result = run("bad.py:make_step", "--gpu-cap", "8GB")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(sentence, result.stderr), result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.py"], "'train.py' names no step: expected FILE.py:FUNCTION or MODULE:FUNCTION"),
        (["train.py:a-b"], "'train.py:a-b' names no step"),
        (["nope.py:make_step"], "there is no file nope.py"),
        (["no_such_module.steps:make_step"], "there is no module no_such_module: not in the working folder"),
        (["train.py:train", "--batch", "0"], "--batch: got 0, expected at least 1"),
        (["train.py:train", "--gpu", "nope"], "unknown card 'nope'"),
        (["train.py:train", "--gpu-cap", "8"], "'8' is not a memory size"),
    ],
)
def test_what_is_no_question(run, arguments, sentence):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and sentence in result.stderr


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch is a CUDA build")
@pytest.mark.parametrize("engine", ["virtual", "cuda"])
def test_an_engine_that_cannot_be_had(run, engine):
    result = run("train.py:train", "--engine", engine)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and "built without CUDA" in result.stderr


class Runs:
    """A card on which a batch takes 100 MiB each and reserves as much, and which says what it was asked."""

    def __init__(self):
        self.batches = []

    def measure(self, trial):
        self.batches.append(trial.batch)
        peak_bytes = 100 * MiB * trial.batch
        fits = peak_bytes <= trial.limit_bytes
        seen = peak_bytes if fits else 0
        return Measurement(fits, seen, seen, 0, not fits, trial.limit_bytes, None, None, "", torch.__version__, None)


def one_mib_each(batch, device):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)


@pytest.mark.parametrize(("recorded", "most"), [(None, 8), (Recorded(one_mib_each), 60)])
def test_a_device_is_asked_as_it_is(recorded, most):
    """The virtual card has no recording's answer but its own, wherever the search starts."""
    device = Runs()

    class Engine(CudaEngine):
        name = "virtual"

        def __init__(self, make_step, card, **options):
            super().__init__(make_step, card, **options, device=device)

    card = Card("a card", 8 * GiB, 0, (8, 6), 68, "made up")
    answer = fit("it", OnDevice(Engine, one_mib_each, recorded=recorded), [card], 100)
    (found,) = answer.cards
    assert (found.boundary.batch, found.left_bytes) == (81, 8 * GiB - 8100 * MiB)
    assert found.asked_left_bytes == 8 * GiB - 10000 * MiB
    assert len(device.batches) <= most
    assert (answer.made_of is None) == (recorded is None)


class Reads:
    """A virtual card with room for all, that does as it was told, or strays; it notes what trials tell it."""

    def __init__(self, strays):
        self.strays, self.told = strays, {}

    def measure(self, trial):
        self.told[trial.batch] = trial.reads
        peaks = trial.batch * MiB
        seen = [True, peaks, peaks, 0, 0, trial.limit_bytes, None, None, "", torch.__version__, None]
        return VirtualMeasurement(*seen, values_read=7, selections=3, lower_bounds=(), strays=self.strays)


def reads_some(batch):
    def step():
        rows = torch.rand(batch, 3, device="cuda")
        if bool((torch.arange(batch, device="cuda") >= 0).all()):
            rows[torch.arange(batch, device="cuda") % 2 == 0].sum().item()

    return step


@pytest.mark.parametrize(
    ("strays", "assumed"),
    [
        (0, ["a value that the step reads is taken as 0.0"]),
        (
            1,
            [
                "the 7 values that the step reads back from the card are taken as 0",
                "the 3 times that the step selects elements by value, it selects none",
            ],
        ),
    ],
)
def test_a_virtual_card_is_told_what_is_known(strays, assumed):
    device = Reads(strays)

    class Engine(VirtualEngine):
        def __init__(self, make_step, card, **options):
            super().__init__(make_step, card, **options, device=device)

    card = Card("a card", 8 * GiB, 0, (8, 6), 68, "made up")
    engine = OnDevice(Engine, reads_some, recorded=Recorded(as_make_step(reads_some)))
    assert engine.probe(card, 9).fits
    assert device.told == {9: ((1, b"\1"), (4, b"\5\0\0\0"), (4, None)) * 2}
    assert [each.what for each in engine.assumed([card]) if each.is_value] == assumed


ODD_STEPS = """
import itertools
import torch

lengths = itertools.count(1)

def keeps(batch, device):
    kept = []
    return lambda: kept.append(torch.zeros(batch, 1000, device=device))

def draws(batch, device):
    return lambda: torch.zeros(batch, next(lengths), device=device)
"""


@pytest.fixture
def odd_steps(tmp_path, monkeypatch):
    """Steps that no two calls of show as they are, in a file, on a machine that can have a virtual card."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choice, "VirtualDevice", lambda card: None)
    (tmp_path / "odd.py").write_text(ODD_STEPS)


@pytest.mark.parametrize("engine", ["auto", "virtual"])
def test_a_step_that_keeps_more_each_time_is_refused_on_a_card_too(odd_steps, engine):
    with pytest.raises(NotRecordableError, match=r"keeps 8,000 bytes more each time .* at odd\.py:9"):
        choice.engine_of("odd.py:keeps", engine, [CARDS["RTX 3080"]])


def test_a_step_that_is_another_each_time_is_said_to_be(odd_steps):
    card = CARDS["RTX 3080"]
    (said,) = [each for each in choice.engine_of("odd.py:draws", "virtual", [card]).assumed([card]) if each.is_value]
    assert said.what.startswith("the 2 calls that were run stand for all: the step does not allocate the same each")


def test_a_capacity_is_bounded_and_said_to_be():
    def convolves(batch, device):
        net = torch.nn.Conv2d(3, 8, 3).to(device)
        return lambda: net(torch.rand(batch, 3, 16, 16, device=device)).sum().backward()

    engine = Recorded(convolves)
    cards = [card_of_capacity("8GB"), Card("a card", 8 * GiB, 0, None, None, "made up")]
    said = [each.what for each in fit("it", engine, cards).assumed]
    assert said[0] == "CUDA's own context takes 500.00 MiB of 8GB"
    assert said[1].startswith("convolutions on 8GB take the most workspace")
    assert len(said) == 3


READS = """
import torch

def made(batch, read):
    layer = torch.nn.Linear(64, 64).cuda()

    def step():
        loss = layer(torch.rand(batch, 64, device="cuda")).sum()
        loss.backward()
        read(loss)

    return step

def known(batch):
    return made(batch, lambda loss: torch.ones(8, device="cuda").sum().item())

def unknown(batch):
    return made(batch, lambda loss: print(f"loss {loss:.3f}"))
"""


def test_strict_refuses_values_that_are_not_known(run, tmp_path):
    (tmp_path / "reads.py").write_text(READS)
    assert run("reads.py:known", "--gpu-cap", "8GB", "--strict").returncode == 0
    result = run("reads.py:unknown", "--gpu-cap", "8GB", "--strict")
    assert (result.returncode, result.stdout) == (2, "")
    line = 'reads.py:18, in <lambda>: `return made(batch, lambda loss: print(f"loss {loss:.3f}"))`'
    assert result.stderr.splitlines() == [
        "bench: --strict: reads.py:unknown asks for values that nobody knows without a GPU: "
        f"a value that the step reads is taken as 0.0 ({line})"
    ]
    told = answer_of(run("reads.py:unknown", "--gpu-cap", "8GB", "--json"))
    assert told["assumed"][-1] == {
        "what": "a value that the step reads is taken as 0.0",
        "where": line,
        "is_value": True,
    }


NETWORKS = """
from torch import nn

class Perceptron(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 16 * 16, 4096), nn.ReLU(), nn.Linear(4096, 10))

def create_model(name):
    return {"perceptron": Perceptron}[name]()

def text():
    return "no network"
"""
SAME = """
import torch
from networks import Perceptron

def make_step(batch, device):
    net = Perceptron().to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    scaler = torch.amp.GradScaler("cuda")

    def step():
        image = torch.rand(batch, 3, 16, 16, device=device)
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            output = net(image)
            loss = torch.nn.functional.cross_entropy(output, torch.randint(0, 10, (batch,), device=device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step
"""


@pytest.fixture
def networks(run, tmp_path, monkeypatch):
    (tmp_path / "networks.py").write_text(NETWORKS)
    (tmp_path / "timm.py").write_text(NETWORKS)
    (tmp_path / "same.py").write_text(SAME)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    return run


@pytest.mark.parametrize("model", ["networks.py:Perceptron", "networks:Perceptron", "timm:perceptron"])
def test_a_plain_network_is_trained_as_one_writes_it(networks, model):
    cards = ("--gpu-cap", "8GB", "--batch", "512", "--json")
    told = answer_of(networks("--model", model, "--input", "3x16x16", "--amp", "fp16", *cards))
    written = answer_of(networks("same.py:make_step", *cards))
    assert told["step"] == f"{model}, 3x16x16, cross_entropy, adamw, fp16"
    assert told["cards"] == written["cards"]


def test_losses_and_optimisers(networks):
    model = ("--model", "networks.py:Perceptron", "--input", "3x16x16", "--batch", "1", "--gpu-cap", "8GB", "--json")
    weights = 4 * (4096 * (768 + 1 + 10) + 10)
    states = {"sgd": 1, "adam": 2, "adamw": 2, "rmsprop": 1, "adagrad": 1}
    for loss, optimizer in zip(["mse", "l1", "bce", "cross_entropy", "mse"], states, strict=True):
        told = answer_of(networks(*model, "--loss", loss, "--optimizer", optimizer))
        sizes = told["made_of"]["categories"]
        assert sizes["parameters"] == weights
        assert sizes["optimiser state"] == states[optimizer] * weights


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected a step, such as train.py:make_step, or --model and --input"),
        (["--model", "networks.py:Perceptron"], "expected a step, such as train.py:make_step, or --model and --input"),
        (["train.py:train", "--model", "timm:x", "--amp=bf16"], "got a step, train.py:train, and --model, --amp"),
        (["--model", "networks.py:Perceptron", "--input", "3,16"], "--input: got '3,16', expected the shape of one"),
        (["--model", "networks.py:Perceptron", "--input", "99999999x99999999"], "more than 1,099,511,627,776 numbers"),
        (["--model", "networks.py:text", "--input", "3"], "--model: networks.py:text is no network: it gives str"),
        (
            ["--model", "networks.py:Perceptron", "--input", "3", "--loss", "x"],
            "--loss: unknown loss 'x': known are cr",
        ),
        (["--model", "networks.py:Perceptron", "--input", "3", "--amp", "x"], "--amp: unknown amp 'x': known are none"),
        (["--model", "networks.py:Perceptron", "--input", "3x8x8"], "fails: RuntimeError: "),
        (["--model", "timm:nope", "--input", "3x8x8"], "fails: KeyError: 'nope' (timm.py:9, in create_model: "),
    ],
)
def test_networks_that_cannot_be_used(networks, arguments, sentence):
    result = networks(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and sentence in result.stderr


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_not_installed(run, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = run("--model", f"{package}:resnet50", "--input", "3x224x224")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"bench: --model: {package} is not installed: pip install {package}\n"


PYTHON = os.environ.get("BENCH_CUDA_PYTHON", "")


@pytest.mark.skipif(not PYTHON, reason="BENCH_CUDA_PYTHON names no python with a CUDA build of PyTorch")
def test_auto_is_the_virtual_card_where_there_can_be_one(tmp_path):
    (tmp_path / "train.py").write_text(
        TRAIN.replace('"meta"', '"cuda"').replace(
            "    torch.empty(batch",
            "    assert not torch.empty(batch, device='cuda').sum().item()\n    torch.empty(batch",
        )
    )
    command = [PYTHON, "-m", "bench", "fit", "train.py:itself", "--gpu-cap", "8GB", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["engine"], told["cards"][0]["largest_batch"]) == ("virtual", USABLE_MIB)  # once the cache is released
    assert [each["is_value"] for each in told["assumed"]] == [False, False, True]
    refused = subprocess.run([*command, "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--strict" in refused.stderr


def test_explain_takes_the_same_step(run, bench):
    told = answer_of(run("train.py:train", "--gpu", "RTX 3080", "--batch", "64", "--json"))
    explained = answer_of(bench("explain", "train.py:train", "--gpu", "RTX 3080", "--batch", "64", "--json"))
    assert explained["step"] == "train.py:train"
    assert {name: explained[name] for name in told["made_of"]} == told["made_of"]
    parameters = 4 * (1024 * 4096 * 2 + 4096 + 1024)
    assert explained["categories"]["parameters"] == parameters
    assert explained["categories"]["optimiser state"] == 2 * parameters
    largest = answer_of(run("train.py:one_mib_each", "--gpu-cap", "8GB", "--json"))["cards"][0]["largest_batch"]
    assert answer_of(bench("explain", "train.py:one_mib_each", "--gpu-cap", "8GB", "--json"))["batch"] == largest


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected a step, such as train.py:make_step, or --architecture and --task"),
        (["--architecture", "LU-DnCNN"], "expected a step"),
        (["train.py:train", "--task", "mri"], "got a step, train.py:train, and --architecture or --task"),
        (["train.py:nope"], "train.py has no function nope: it has one_mib_each, "),
    ],
)
def test_explain_of_nothing(run, bench, arguments, sentence):
    result = bench("explain", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and sentence in result.stderr


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_shows_every_line_of_the_peak(run, terminal, columns):
    made_of = answer_of(run("train.py:train", "--gpu", "RTX 3080", "--batch", "64", "--json"))["made_of"]
    text = terminal(columns, "fit", "train.py:train", "--gpu", "RTX 3080", "--batch", "64")
    largest = max(row["size_bytes"] for row in made_of["rows"])
    (line,) = {row["place"] for row in made_of["rows"] if row["size_bytes"] == largest}
    assert line and line in text
    assert max(map(len, text.splitlines())) <= columns
