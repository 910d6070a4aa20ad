"""Steps whose gradients meet, held against what the virtual card answered (tools/virtual_goldens/steps.py)."""

import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of, record_events
from bench.memory.simulated import installed_release
from bench.memory.trace import Workspace, constant
from bench.virtual.comparison import compare
from bench.virtual.goldens import read

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import attention, gradients, modules, unchanged

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
STEPS = {
    "gradients": gradients.STEPS,
    "modules": modules.STEPS,
    "unchanged": unchanged.STEPS,
    "attention": attention.STEPS,
    "attention-turing": attention.STEPS,
    "attention-hopper": attention.STEPS,
}
ON_CUDA = ("unchanged", "attention", "attention-turing", "attention-hopper")
GOLDENS = {kind: read(FOLDER / f"{kind}-2.14.json.xz") for kind in STEPS}
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
    "batchnorm": ({512: 4, 73728: 4}, {}, {}),
    "groupnorm": ({512: 8}, {}, {}),
    "pad": ({78848: 2}, {}, {}),
    "sort": ({1024: 2}, {}, {}),
    "rms": ({}, {}, {73728: 10, 1024: 10}),
    # Reductions' staging, workspaces of convolutions, and a copy into channels_last that cuDNN's backward makes.
    "widened": ({8192: 2}, {}, {}),
    "images_in_half": ({100864: 2}, {}, {}),
    "channels_last": ({17920: 2, 175616: 2, 12800: 2, 238080: 2}, {24576: 2}, {}),
    "scaled": ({512: 2}, {}, {}),
    "not_scaled": ({512: 2}, {}, {}),
    "loaded": ({34816: 4, 239616: 4, 512: 3}, {}, {}),
    **{
        f"{kind}/{name}": ({512: 4}, {}, {})  # staging of a sum over all
        for kind in ("attention", "attention-turing", "attention-hopper")
        for name in ("width_256", "width_512", "long", "long_mask")
    },
    **{
        f"{kind}/many_heads": ({512: 2, 1024: 2}, {}, {})
        for kind in ("attention", "attention-turing", "attention-hopper")
    },
    # Turing has no fused kernel for these, and the backward of softmax copies.
    "attention-turing/bfloat16": ({131072: 2}, {}, {}),
    "attention-turing/width_20": ({131072: 2}, {}, {}),
}


def _difference(kind, name):
    return DIFFERENCES.get(f"{kind}/{name}") or DIFFERENCES.get(name if "attention" not in kind else "", ({}, {}, {}))


# Written by other operations, which a run with data shows as one.
COMPOSITES = {"binary_cross_entropy", "weighted_binary_cross_entropy", "norms"}


@pytest.mark.parametrize("kind", STEPS)
def test_there_is_an_answer_for_every_step(kind):
    assert list(GOLDENS[kind].cells) == list(STEPS[kind])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_recording_allocates_what_a_card_does(kind, name):
    if "attention" in kind and "grouped" in name and installed_release() < (2, 14):
        pytest.skip("this release has another kernel for grouped heads")
    goldens = GOLDENS[kind]
    card = CARDS[goldens.card]
    make_step = STEPS[kind][name]
    if kind in ON_CUDA:
        with on_cuda(card):
            trace = constant(events_of(make_step, goldens.cells[name].batch, goldens.steps))
    else:
        trace = record(make_step, goldens.steps)
    trace = trace.with_cublas_workspace(card.cublas_workspace_bytes)
    golden = goldens.cells[name]
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    assert (found.temporaries, found.on_card, found.recorded) == _difference(kind, name)


@pytest.mark.parametrize("name", [name for name in gradients.STEPS if name not in COMPOSITES])
def test_a_real_run_is_observed_in_the_same_way(name):
    step = gradients.STEPS[name]
    assert record_events(step, 2, torch.device("meta")) == record_events(step, 2, torch.device("cpu"))
