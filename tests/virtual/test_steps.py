"""Steps whose gradients meet, held against what the virtual card answered (tools/virtual_goldens)."""

from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.recorder import record_events
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read
from tests.fidelity import gradients, modules

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
STEPS = {"gradients": gradients.STEPS, "modules": modules.STEPS}
RELEASES = ["2.11", "2.13", "2.14", "2.15"]
GOLDENS = {(kind, release): read(FOLDER / f"{kind}-{release}.json.xz") for kind in STEPS for release in RELEASES}
ALL = [(kind, name) for kind, steps in STEPS.items() for name in steps]

# What differs today: temporaries of the card, by bytes; other allocations of the card alone, of the recording alone.
# Each is of a kernel that no rule covers.
DIFFERENCES = {
    "largest_of_rows": ({}, {}, {9216: 2}),
    "indexed": ({512: 24, 3072: 2}, {}, {}),
    "weighted_binary_cross_entropy": ({}, {}, {36864: 2}),
    "norms": ({512: 4}, {36864: 2, 512: 2}, {}),
    "attention_with_a_mask": ({73728: 2}, {}, {}),
    "normalised": ({512: 14}, {}, {}),
    "batchnorm": ({512: 2, 73728: 2}, {512: 2, 73728: 2}, {}),
    "groupnorm": ({512: 8}, {}, {}),
    "pad": ({78848: 2}, {}, {}),
    "sort": ({1024: 2}, {}, {}),
    "rms": ({}, {}, {73728: 10, 1024: 10}),
}

# What cuBLAS takes at a call (2.15), and cuBLASLt at its first (2.11) or at each (2.15), is not compared here.
OF_CUBLAS = {"2.11": (2**20,), "2.15": (8_519_680, 2**20)}

# Written by other operations, which a run with data shows as one.
COMPOSITES = {"binary_cross_entropy", "weighted_binary_cross_entropy", "norms"}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_recording_allocates_what_a_card_does(kind, name, release):
    goldens = GOLDENS[kind, release]
    trace = record(STEPS[kind][name], goldens.steps)
    trace = trace.with_cublas_workspace(CARDS[goldens.card].cublas_workspace_bytes)
    golden = goldens.cells[name]
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    for size_bytes in OF_CUBLAS.get(release, ()):
        del found.temporaries[size_bytes], found.on_card[size_bytes]
    assert (found.temporaries, found.on_card, found.recorded) == DIFFERENCES.get(name, ({}, {}, {}))


@pytest.mark.parametrize("name", [name for name in gradients.STEPS if name not in COMPOSITES])
def test_a_real_run_is_observed_in_the_same_way(name):
    step = gradients.STEPS[name]
    assert record_events(step, 2, torch.device("meta")) == record_events(step, 2, torch.device("cpu"))
