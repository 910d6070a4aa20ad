"""Training programs as strangers write them: a right answer, or one sentence that says what to do."""

import json
import re
import textwrap
from pathlib import Path

import pytest

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

def net():
    return nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 10))

def update(model, opt, batch):
    loss = F.cross_entropy(model(torch.rand(batch, 1024).cuda()), torch.randint(10, (batch,)).cuda())
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss

"""
PLAIN = """
def make_step(batch):
    model = net().cuda()
    opt = torch.optim.Adam(model.parameters())
    return lambda: update(model, opt, batch)
"""
CLASS = """
class Trainer:
    def __init__(self, batch):
        self.batch = batch
        self.model = net().cuda()
        self.opt = torch.optim.Adam(self.model.parameters())

    def step(self):
        return update(self.model, self.opt, self.batch)

    @staticmethod
    def make_step(batch):
        return Trainer(batch).step
"""
GLOBAL = """
model = net().cuda()
opt = torch.optim.Adam(model.parameters())
"""

# As PLAIN to the byte: the function, and its program.
SAME = {
    "a global model": ("step", GLOBAL + "def step(batch): return update(model, opt, batch).item()"),
    "a default device": (
        "make_step",
        "torch.set_default_device('cuda')" + GLOBAL + "make_step = lambda batch: lambda: update(model, opt, batch)",
    ),
    "a class's function": ("Trainer.make_step", CLASS),
    "a class with a call": ("Step", CLASS + "class Step(Trainer):\n    __call__ = Trainer.step"),
    "keywords": (
        "make_step",
        "def make_step(*, batch_size, rate=1e-3):\n    trainer = Trainer(batch_size)\n    return trainer.step" + CLASS,
    ),
    "a device first": ("make_step", CLASS + "def make_step(device, batch): return Trainer(batch).step"),
    "a dictionary": (
        "step",
        GLOBAL + "def step(batch): return {'loss': update(model, opt, batch).detach(), 'rate': 0.1}",
    ),
    "logs and bars": (
        "make_step",
        "import logging, sys\nlogging.basicConfig(level=logging.INFO)\n"
        + CLASS
        + """
def make_step(batch):
    trainer = Trainer(batch)
    def step():
        trainer.step()
        logging.info("stepped")
        print("bar", file=sys.stderr)
    return step
""",
    ),
    "a checkpoint": (
        "make_step",
        CLASS
        + """
def make_step(batch):
    trainer = Trainer(batch)
    def step():
        trainer.step()
        torch.save(trainer.model.state_dict(), "checkpoint.pt")
    return step
""",
    ),
}
WORKERS = (
    "class Rows(torch.utils.data.Dataset):\n    def __len__(self): return 10**6\n"
    "    def __getitem__(self, index): return torch.rand(1024), index % 10\n"
    + CLASS
    + """
def make_step(batch):
    loader = torch.utils.data.DataLoader(Rows(), batch, num_workers=2, pin_memory=True, timeout=60)
    rows, trainer = iter(loader), Trainer(batch)
    def step():
        x, y = (each.cuda(non_blocking=True) for each in next(rows))
        trainer.opt.zero_grad()
        F.cross_entropy(trainer.model(x), y).backward()
        trainer.opt.step()
    return step
"""
)
SAME |= {
    "one card in parallel": (
        "make_step",
        PLAIN.replace("net().cuda()", "nn.DataParallel(net()).cuda()"),
    ),
    "what torch.cuda tells": (
        "make_step",
        CLASS
        + """
def make_step(batch):
    trainer = Trainer(batch)
    def step():
        trainer.step()
        free, total = torch.cuda.mem_get_info()
        share = torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(0).total_memory + free / total
        stats = torch.cuda.memory_stats()["allocated_bytes.all.peak"], torch.cuda.memory_summary()
    return step
""",
    ),
    "pinned samples": (
        "make_step",
        PLAIN.replace("update(model, opt, batch)", "update(model, opt, len(torch.rand(batch, 2, pin_memory=True)))"),
    ),
    "a loop": (
        "train",
        "def train(batch):\n    trainer = Trainer(batch)\n    while True:\n        yield trainer.step()" + CLASS,
    ),
}

# Refused: the function, its program, and what is said.
REFUSED = {
    "a command line": (
        "make_step",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--data', required=True)\n"
        "args = parser.parse_args()\ndef make_step(batch): ...",
        r"ends the program \(train\.py:\d+: `args = parser\.parse_args\(\)`; raised at argparse\.py:\d+\): what reads "
        r"a command line belongs below __name__ == '__main__'",
    ),
    "training at import": (
        "make_step",
        GLOBAL + "print(update(model, opt, 4).item())\n" + PLAIN,
        r"trains as it is imported \(train\.py:\d+: `print\(update.*\): what trains belongs below",
    ),
    "ranks": (
        "make_step",
        "import os\ndef make_step(batch):\n    rank = int(os.environ['LOCAL_RANK'])",
        r"KeyError: 'LOCAL_RANK', which torchrun sets: ask with RANK=0 LOCAL_RANK=0 .* \(train\.py:\d+, in make_step",
    ),
    "processes": (
        "make_step",
        "def work(rank): ...\ndef make_step(batch):\n    return lambda: torch.multiprocessing.spawn(work, nprocs=1)",
        r"the step starts processes: give the step of one of them",
    ),
    "a graph": (
        "make_step",
        "def make_step(batch):\n    graph = torch.cuda.CUDAGraph()\n    return graph.replay",
        r"CUDA graphs are not recorded: give the step that the graph is captured of \(train\.py:\d+, in make_step",
    ),
    "random sizes": (
        "make_step",
        "import random\nwidths = list(range(1, 999))\nrandom.shuffle(widths)\n"
        "def make_step(batch):\n    return lambda: torch.rand(batch, 256 * widths.pop(), device='cuda').sum()",
        r"does not allocate the same each time: .* \(train\.py:\d+, in <lambda>: .*let what is drawn at random be the "
        "largest that it can be",
    ),
    "a count of values": (
        "make_step",
        "def make_step(batch):\n    return lambda: torch.randint(9, (batch,)).cuda().unique()",
        r"how large the result of aten::_unique2 is, nobody knows without data; leave it out of the step, or ask a "
        r"virtual card \(--engine virtual\) \(train\.py:\d+",
    ),
    "two devices": (
        "make_step",
        "def make_step(batch):\n    model = net().cuda()\n    return lambda: model(torch.rand(batch, 1024))",
        "the step uses tensors of the card and of the host together, of which some were not moved",
    ),
    "a notebook": ("", "", r"train\.ipynb is a notebook: write the step into a file, or ask there, as by bench\."),
}


@pytest.fixture
def ask(bench, tmp_path):
    """Ask about a function of a program that is train.py."""

    def ask(function, program, *arguments, file="train.py"):
        Path(tmp_path / file).write_text(HEAD + textwrap.dedent(program) + "\n")
        return bench("fit", f"{file}:{function or 'make_step'}", "--gpu-cap", "700MB", "--batch", "512", *arguments)

    return ask


PLAINS = []  # what is said of PLAIN, which is asked about once


@pytest.fixture
def plain(ask):
    """The cards of the answer about PLAIN."""
    if not PLAINS:
        PLAINS.append(cards(ask("make_step", PLAIN, "--json")))
    return PLAINS[0]


def cards(result):
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)["cards"]


@pytest.mark.parametrize("name", SAME)
def test_a_step_is_the_same_however_it_is_written(ask, plain, tmp_path, name):
    (tmp_path / "checkpoint.pt").write_bytes(b"a user's")
    assert cards(ask(*SAME[name], "--json")) == plain
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"a user's"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked_about_says_what_to_do(ask, name):
    function, program, sentence = REFUSED[name]
    result = ask(function, program, file="train.ipynb" if not program else "train.py")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and re.search(sentence, result.stderr), result.stderr


def test_a_loader_has_no_workers(ask):
    alone = WORKERS.replace("num_workers=2, pin_memory=True, timeout=60", "num_workers=0")
    assert cards(ask("make_step", WORKERS, "--json")) == cards(ask("make_step", alone, "--json"))


def test_ranks_as_torchrun_sets_them(ask, plain, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    program = "import os\nrank = int(os.environ['LOCAL_RANK'])\n" + PLAIN.replace(".cuda()", ".to(rank)")
    assert cards(ask("make_step", program, "--json")) == plain


def test_a_file_of_a_package_finds_its_neighbours(bench, plain, tmp_path):
    folder = tmp_path / "somebodys"
    folder.mkdir()
    (folder / "nets.py").write_text(HEAD)
    (folder / "train.py").write_text("import torch\nfrom .nets import net, update\n" + PLAIN)
    asked = ("fit", "somebodys/train.py:make_step", "--gpu-cap", "700MB", "--batch", "512", "--json")
    refused = bench(*asked)
    assert refused.returncode == 2
    assert "name it from the folder above, somebodys.train:FUNCTION" in refused.stderr
    (folder / "__init__.py").write_text("")
    assert cards(bench(*asked)) == plain


def test_gradients_that_are_summed_over_calls(ask):
    program = """
    def make_step(batch):
        model = net().cuda()
        opt = torch.optim.Adam(model.parameters())
        calls = 0

        def step():
            nonlocal calls
            F.cross_entropy(model(torch.rand(batch, 1024).cuda()), torch.randint(10, (batch,)).cuda()).backward()
            calls += 1
            if calls % 8 == 0:
                opt.step()

        return step
    """
    few = json.loads(ask("make_step", program, "--json").stdout)
    all_of_them = json.loads(ask("make_step", program, "--steps", "8", "--json").stdout)
    parameters = 4 * (1024 * 2048 + 2048 + 2048 * 10 + 10)
    state = [each["made_of"]["categories"]["optimiser state"] for each in (few, all_of_them)]
    assert state == [0, 2 * parameters]
    said = [[a["what"] for a in each["assumed"] if "--steps" in a["what"]] for each in (few, all_of_them)]
    assert [len(each) for each in said] == [1, 0]
    assert re.match(r"Adam \(train\.py:\d+, in make_step: `opt = .*`\) takes no step in the calls", said[0][0])


def test_a_distribution_is_not_asked_whether_it_is_one(ask):
    program = """
    def make_step(batch):
        model = net().cuda()

        def step():
            chosen = torch.distributions.Categorical(logits=model(torch.rand(batch, 1024).cuda()))
            chosen.log_prob(chosen.sample()).mean().backward()

        return step
    """
    assert cards(ask("make_step", program, "--json"))[0]["asked"]["fits"]
