"""Steps whose gradients meet, held against what the virtual card answered (tools/virtual_goldens)."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import record_events
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read
from tests.fidelity import gradients, modules, unchanged

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
STEPS = {"gradients": gradients.STEPS, "modules": modules.STEPS, "unchanged": unchanged.STEPS}
RELEASES = ["2.13", "2.14"]
GOLDENS = {
    (kind, release): read(path)
    for kind in STEPS
    for release in RELEASES
    if (path := FOLDER / f"{kind}-{release}.json.xz").exists()
}
ALL = [(kind, name, release) for kind, release in GOLDENS for name in STEPS[kind]]

# What differs today: temporaries of the card, by bytes; other allocations of the card alone, of the recording alone.
# Reductions' staging, workspaces of convolutions, and a copy into channels_last that cuDNN's backward makes.
DIFFERENCES = {
    "images_in_half": ({100864: 2}, {}, {}),
    "channels_last": ({17920: 2, 175616: 2, 12800: 2, 238080: 2}, {24576: 2}, {}),
    "loaded": ({34816: 4, 239616: 4, 512: 3}, {}, {}),
}

# What differs today: temporaries of the card, by bytes; other allocations of the card alone, of the recording alone.
DIFFERENCES = {
    "unfold": ({512: 2, 663552: 2}, {73728: 2}, {512: 2, 73728: 2}),
    "cumprod": (
        {},
        {},
        {147456: 2, 18432: 14, 73728: 16, 512: 2, 1536: 4, 1024: 6},
    ),  # its gradient, by another formula
}

# Written by other operations, which a run with data shows as one.
COMPOSITES = {"binary_cross_entropy", "weighted_binary_cross_entropy", "norms"}


@pytest.mark.parametrize(("kind", "name", "release"), ALL)
def test_the_recording_allocates_what_a_card_does(kind, name, release):
    goldens = GOLDENS[kind, release]
    with on_cuda() if kind == "unchanged" else nullcontext():
        trace = record(STEPS[kind][name], goldens.steps).on(CARDS[goldens.card])
    golden = goldens.cells[name]
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    assert (found.temporaries, found.on_card, found.recorded) == DIFFERENCES.get(name, ({}, {}, {}))


@pytest.mark.parametrize("name", [name for name in gradients.STEPS if name not in COMPOSITES])
def test_a_real_run_is_observed_in_the_same_way(name):
    step = gradients.STEPS[name]
    assert record_events(step, 2, torch.device("meta")) == record_events(step, 2, torch.device("cpu"))
