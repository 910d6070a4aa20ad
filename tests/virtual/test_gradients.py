"""Steps whose gradients meet, held against what the virtual card answered (tools/virtual_goldens/steps.py)."""

import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.recorder import record_events
from bench.memory.recording.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.gradients import STEPS

GOLDENS = read(Path(__file__).parents[1] / "golden" / "virtual" / "gradients-2.14.json.xz")

# Temporaries of the card, by bytes; other allocations of the card alone, of the recording alone. All the rest: none.
TEMPORARIES_OF_KERNELS = {
    "shared_weights": ({36864: 3}, {36864: 1}, {}),
    "largest_of_rows": ({73728: 4}, {}, {9216: 2}),
    "indexed": ({512: 24, 3072: 2}, {}, {}),
    "binary_cross_entropy": ({}, {36864: 4}, {}),
    "weighted_binary_cross_entropy": ({}, {512: 2, 36864: 6}, {36864: 2}),
    "norms": ({512: 4}, {512: 2, 36864: 2}, {}),
    "attention_with_a_mask": ({24576: 3, 73728: 2}, {24576: 1}, {}),
    "normalised": ({512: 14}, {}, {}),
}


def test_there_is_an_answer_for_every_step():
    assert list(GOLDENS.cells) == list(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_gradients_are_summed_and_filled_where_a_card_does_it(name):
    trace = record(STEPS[name], GOLDENS.steps).with_cublas_workspace(CARDS[GOLDENS.card].cublas_workspace_bytes)
    golden = GOLDENS.cells[name]
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    assert (found.temporaries, found.on_card, found.recorded) == TEMPORARIES_OF_KERNELS.get(name, ({}, {}, {}))


@pytest.mark.parametrize("name", STEPS)
def test_a_real_run_is_observed_in_the_same_way(name):
    on_the_host = record_events(STEPS[name], 2, torch.device("cpu"))
    assert [event for event in record_events(STEPS[name], 2, torch.device("meta")) if not event.is_cublas] == [
        event for event in on_the_host if not event.is_cublas
    ]
