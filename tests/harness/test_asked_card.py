"""Steps that ask which card there is, and do something else on another."""

import inspect

import pytest
import torch
from torch import nn

from bench.fitting import Recorded, recorded_step
from bench.memory import CARDS, card_of_capacity
from bench.memory.by_card import StepByCard
from bench.memory.forms import as_make_step

cuda = torch.cuda


def trained(batch, dtype=None, pieces=1):
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024)).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(batch * 64, 1024, device="cuda")

    def step():
        optimizer.zero_grad()
        for piece in x.chunk(pieces):
            with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
                loss = model(piece).square().mean()
            loss.backward()
        optimizer.step()

    return step


ASKED = {
    "capability": lambda: cuda.get_device_capability()[0] >= 8,
    "bf16": lambda: cuda.is_bf16_supported(including_emulation=False),
    "multiprocessors": lambda: cuda.get_device_properties(0).multi_processor_count == 68,
    "threads": lambda: cuda.get_device_properties("cuda").max_threads_per_multi_processor == 1536,
    "name": lambda: cuda.get_device_name() == "NVIDIA GeForce RTX 3080",
    "memory": lambda: cuda.get_device_properties(0).total_memory < 12e9,
    "free memory": lambda: cuda.mem_get_info()[0] < 12e9,
}

# Largest batch and peaks on both cards: PyTorch's own allocator on the virtual card (torch 2.14.1).
IN_BF16 = {"RTX 3080": (3980, 8_996_582_400, 9_974_054_912), "T4": (4060, 13_971_555_328, 15_109_980_160)}
IN_PIECES = {"RTX 3080": (8816, 9_395_586_048, 9_969_860_608), "T4": IN_BF16["T4"]}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("order", [("RTX 3080", "T4"), ("T4", "RTX 3080")], ids="-".join)
def test_each_card_gets_its_own_answer(asked, order):
    is_3080 = ASKED[asked]
    by_memory = "memory" in asked

    def make_step(batch):
        if by_memory:
            return trained(batch, pieces=4 if is_3080() else 1)
        return trained(batch, torch.bfloat16 if is_3080() else None)

    recorded = Recorded(as_make_step(make_step))
    for name in order:
        found = recorded.largest(CARDS[name])
        answer = found.batch, found.at_edge.peak_allocated_bytes, found.at_edge.peak_reserved_bytes
        assert answer == (IN_PIECES if by_memory else IN_BF16)[name]


def test_a_capacity_has_its_own_memory():
    told = []

    def make_step(batch):
        told.append(cuda.get_device_properties(0).total_memory)
        return trained(batch)

    Recorded(as_make_step(make_step)).largest(card_of_capacity("6GB"))
    assert {told[0], told[-1]} == {CARDS["RTX 3080"].total_bytes, 6 * 2**30}


def test_a_file_that_asks_when_it_is_imported(tmp_path):
    lines = inspect.getsource(trained).splitlines()
    asks = "DTYPE = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None"
    source = [
        "import torch",
        "from torch import nn",
        asks,
        *lines,
        "def make_step(batch):",
        "    return trained(batch, DTYPE)",
    ]
    (tmp_path / "train.py").write_text("\n".join(source))
    recorded = recorded_step(f"{tmp_path / 'train.py'}:make_step")
    for name, (batch, *_) in IN_BF16.items():
        assert recorded.largest(CARDS[name]).batch == batch


def test_a_step_that_does_not_ask_is_recorded_once():
    by_card = StepByCard(as_make_step(trained))
    assert by_card.on(CARDS["T4"]) is by_card.on(CARDS["RTX 3080"])
