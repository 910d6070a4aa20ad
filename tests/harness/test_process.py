"""What a program tells PyTorch before or while its step is built, in each of the ways that programs have."""

from pathlib import Path

import pytest
import torch

from bench.errors import UsageError
from bench.fitting import OnDevice, Recorded, recorded_step
from bench.fitting.process import Process
from bench.memory import CARDS
from bench.memory.environment import ALLOC_CONF, CUBLAS_WORKSPACE, UNCACHED, check_cached
from bench.step_memory import StepMemory
from bench.virtual import VirtualEngine

EXPANDABLE = '"expandable_segments:True"'
TRAIN = """
import os
import torch
from torch import nn

{at_import}

def make_step(batch):
    {in_the_step}
    model = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096)).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(batch * 64, 4096, device="cuda")

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step
"""

# The largest batch on an RTX 3080, and its peaks: PyTorch's own allocator on the virtual card (torch 2.14.1).
PLAIN = 1170, 9_007_629_312, 9_971_957_760
EXPANDED = 1292, 9_903_113_216, 9_942_597_632
LARGE_CUBLAS = 1140, 9_307_259_904, 9_967_763_456
HALF = 606, 4_867_851_264, 5_240_782_848
TOLD = {
    "nothing": ("", PLAIN),
    "options by variable": (f'os.environ["PYTORCH_CUDA_ALLOC_CONF"] = {EXPANDABLE}', EXPANDED),
    "options by the newer variable": (f'os.environ["PYTORCH_ALLOC_CONF"] = {EXPANDABLE}', EXPANDED),
    "options by call": (f"torch.cuda.memory._set_allocator_settings({EXPANDABLE})", EXPANDED),
    "options by the newer call": (f"torch._C._accelerator_setAllocatorSettings({EXPANDABLE})", EXPANDED),
    "workspace": ('os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":65536:4"', LARGE_CUBLAS),
    "workspace that PyTorch cannot read": ('os.environ["CUBLAS_WORKSPACE_CONFIG"] = "65536:4"', PLAIN),
    "half": ("torch.cuda.set_per_process_memory_fraction(0.5)", HALF),
    "half, the last time": (
        "[torch.cuda.memory.set_per_process_memory_fraction(each, 0) for each in (0.25, 0.5)]",
        HALF,
    ),
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write the program, and give the name of its step; the environment is put back."""
    for name in (*ALLOC_CONF, CUBLAS_WORKSPACE, UNCACHED):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def write(at_import="", in_the_step=""):
        path = Path(tmp_path) / "train.py"
        path.write_text(TRAIN.format(at_import=at_import, in_the_step=in_the_step))
        return f"{path}:make_step"

    return write


WHERE = {
    f"{name}, {where}": (where, line, expected)
    for name, (line, expected) in TOLD.items()
    for where in ("at_import", "in_the_step")
    if where == "at_import" or "environ" not in line  # which PyTorch has read by then, or not
}


@pytest.mark.parametrize(("where", "line", "expected"), WHERE.values(), ids=WHERE)
def test_what_a_program_tells_pytorch_is_obeyed(written, where, line, expected):
    recorded = recorded_step(written(**{where: line}))
    found = recorded.largest(CARDS["RTX 3080"])
    assert (found.batch, found.at_edge.peak_allocated_bytes, found.at_edge.peak_reserved_bytes) == expected


def test_the_card_that_is_answered_for_is_the_part_that_may_be_taken(written):
    card = CARDS["RTX 3080"]
    recorded = recorded_step(written(TOLD["half"][0]))
    assert recorded.seen(card).usable_bytes == card.total_bytes // 2
    assert recorded.made_of(card, 606).card.usable_bytes == card.total_bytes // 2
    assert recorded.needed(card, 1170).fits
    more_than_there_is = recorded_step(written("torch.cuda.set_per_process_memory_fraction(1.0)"))
    assert more_than_there_is.seen(card).usable_bytes == card.usable_bytes


def test_a_fraction_holds_in_tests_of_memory_too(written):
    step = recorded_step(written(in_the_step=TOLD["half"][0])).make_step
    assert StepMemory(step).largest_batch(gpu="RTX 3080") == HALF[0]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("torch.cuda.set_per_process_memory_fraction(1)", "TypeError: Invalid type for fraction argument"),
        ("torch.cuda.set_per_process_memory_fraction(1.5)", "ValueError: Invalid fraction value: 1.5"),
        ('torch.cuda.memory._set_allocator_settings("backend:cudaMallocAsync")', "allocator option backend"),
    ],
)
def test_what_pytorch_refuses_is_refused_at_its_line(written, line, error):
    with pytest.raises(UsageError, match=error) as raised:
        recorded_step(written(line))
    assert "train.py:6" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("PYTORCH_CUDA_ALLOC_CONF", "bogus:1", "PYTORCH_CUDA_ALLOC_CONF in the environment: .*unknown key 'bogus'"),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "0", "switches PyTorch's caching allocator off"),
    ],
)
def test_an_environment_that_cannot_be_obeyed_is_refused(written, monkeypatch, name, text, sentence):
    name_of_step = written()
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError, match=sentence):
        recorded_step(name_of_step)


def test_what_of_the_environment_is_obeyed_is_said(written):
    recorded = recorded_step(written(TOLD["workspace"][0]))
    said = "CUBLAS_WORKSPACE_CONFIG=:65536:4 in the environment is obeyed, as on the card"
    assert said in [each.what for each in recorded.assumed([CARDS["RTX 3080"]])]


def test_what_runs_a_recorded_step_is_told_the_same():
    process = Process(cublas_workspace=":65536:4", memory_fraction=0.5)
    recorded = Recorded(lambda batch, device: lambda: torch.ones(batch, 2**20, device=device), process=process)
    seen = OnDevice(VirtualEngine, recorded.make_step, recorded=recorded).seen(CARDS["RTX 3080"])
    assert (seen.cublas_workspace, seen.memory_fraction) == (":65536:4", 0.5)


def test_no_cache_is_refused_whatever_the_variable_says():
    check_cached({})
    with pytest.raises(ValueError, match=UNCACHED):
        check_cached({UNCACHED: ""})
