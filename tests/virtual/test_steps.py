"""Steps whose gradients meet, held against what the virtual card answered (tools/virtual_goldens/steps.py)."""

import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.recorder import record_events
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import gradients, modules

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
STEPS = {"gradients": gradients.STEPS, "modules": modules.STEPS}
GOLDENS = {kind: read(FOLDER / f"{kind}-2.14.json.xz") for kind in STEPS}
ALL = [(kind, name) for kind, steps in STEPS.items() for name in steps]

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


@pytest.mark.parametrize("kind", STEPS)
def test_there_is_an_answer_for_every_step(kind):
    assert list(GOLDENS[kind].cells) == list(STEPS[kind])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_recording_allocates_what_a_card_does(kind, name):
    goldens = GOLDENS[kind]
    trace = record(STEPS[kind][name], goldens.steps)
    trace = trace.on(CARDS[goldens.card])
    golden = goldens.cells[name]
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    assert (found.temporaries, found.on_card, found.recorded) == DIFFERENCES.get(name, ({}, {}, {}))


@pytest.mark.parametrize("name", [name for name in gradients.STEPS if name not in COMPOSITES])
def test_a_real_run_is_observed_in_the_same_way(name):
    step = gradients.STEPS[name]
    assert record_events(step, 2, torch.device("meta")) == record_events(step, 2, torch.device("cpu"))
