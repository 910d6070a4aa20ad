"""Steps held against what the virtual card answered (tools/virtual_goldens)."""

from pathlib import Path

import pytest
import torch

from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.recording import attention, attention_choice, batches, cudnn_rnn, kernels
from bench.memory.recording.recorder import record_events
from bench.memory.simulated import SimulatedEngine, installed_release
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read
from tests.fidelity import convolutions, emptying, gradients
from tests.fidelity.workspaces import CARD, KeptWorkspaces
from tools.virtual_goldens.kinds import KINDS

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
RECORDED = (
    *("gradients", "modules", "transfers", "emptying", "unchanged", "recurrent", "speech", "forward"),
    *("attention", "attention-turing", "attention-hopper"),
)
RELEASES = ("2.11", "2.13", "2.14", "2.15")
GOLDENS = {
    (kind, release): read(path)
    for kind in RECORDED
    for release in RELEASES
    if (path := FOLDER / f"{kind}-{release}.json.xz").exists()
}

# What differs today: temporaries of the card, by bytes; other allocations of the card alone, of the recording alone.
DIFFERENCES = {
    # Forward derivatives of a linear layer and of layer_norm, without PyTorch's scripts.
    "along_a_direction": ({2048: 2, 512: 12}, {512: 2}, {1024: 4}),
    "whole_jacobian": ({2048: 2, 512: 10}, {512: 4}, {1024: 4}),
    "of_a_loss": ({2048: 2, 512: 12}, {512: 2}, {1024: 4}),
    # Workspaces of convolutions.
    "images_in_half": ({100864: 2}, {}, {}),
    "loaded": ({34816: 4, 239616: 4}, {}, {}),
    "channels_last": ({175616: 2, 238080: 2}, {}, {}),
    # Workspaces of projections and packed sequences, in the low bound nothing; two of six are no temporaries.
    "lstm_projected": ({8796672: 4}, {8796672: 2}, {}),
    "lstm_projected_under_autocast": ({8611840: 4}, {8611840: 2}, {}),
    "lstm_of_packed_sequences": ({682496: 4}, {682496: 2}, {}),
    "rnns_called_themselves": ({8693248: 4}, {8693248: 2}, {}),
    # The card, which was told nothing, reads lengths of 0 (2 * 50 * 1 numbers); the recording knows that they are 9.
    "lengths_on_the_card": ({512: 4}, {}, {7680: 4}),
}

# What cuBLAS takes at a call (2.15), and cuBLASLt at its first (2.11) or at each (2.15), is not compared here.
OF_CUBLAS = {"2.11": (2**20,), "2.15": (8_519_680, 2**20)}

# Written by other operations, which a run with data shows as one.
COMPOSITES = {"binary_cross_entropy", "weighted_binary_cross_entropy", "norms"}


# Allocated and reserved. Without the calls, within_forward would reserve 153,092,096 bytes.
PEAKS_OF_EMPTYING = {
    "never": (147_106_816, 203_423_744),
    **dict.fromkeys(("torch_cuda", "accelerator", "taken_before", "collected"), (147_106_816, 186_646_528)),
    "within_forward": (131_998_720, 148_897_792),
}


@pytest.mark.parametrize("kind", RECORDED)
def test_there_is_an_answer_for_every_step(kind):
    made = [goldens for (each, _), goldens in GOLDENS.items() if each == kind]
    assert made
    for goldens in made:
        assert list(goldens.cells) == list(KINDS[kind].make_steps)
        assert goldens.card == KINDS[kind].card.name


# Of the longest lists the release between the others' rules, 2.13, is slow.
SLOW = {("gradients", "2.13"), ("modules", "2.13")}


@pytest.mark.parametrize(
    ("kind", "name", "release"),
    [
        pytest.param(kind, name, release, marks=[pytest.mark.slow] * ((kind, release) in SLOW))
        for kind, release in GOLDENS
        for name in KINDS[kind].make_steps
    ],
)
def test_the_recording_allocates_what_a_card_does(kind, name, release, monkeypatch):
    for module in (attention, attention_choice, batches, cudnn_rnn, kernels):
        monkeypatch.setattr(module, "installed_release", lambda: tuple(map(int, release.split("."))))
    if "attention" in kind and ("grouped" in name or "one_head" in name) and installed_release() < (2, 14):
        pytest.skip("this release has another kernel for grouped heads")
    golden = GOLDENS[kind, release].cells[name]
    found = compare(KINDS[kind].recorded(name).at(golden.batch, Workspace.LOW), golden.events)
    for size_bytes in OF_CUBLAS.get(release, ()):
        del found.temporaries[size_bytes], found.on_card[size_bytes]
    assert (found.temporaries, found.on_card, found.recorded) == DIFFERENCES.get(
        f"{name} {release}", DIFFERENCES.get(name, ({}, {}, {}))
    )


@pytest.mark.parametrize("name", emptying.STEPS)
def test_a_cache_that_a_step_empties_leaves_what_a_card_reserves(name):
    golden = GOLDENS["emptying", "2.14"].cells[name]
    config = AllocatorConfig(torch_version=(2, 14))
    probe = SimulatedEngine(KINDS["emptying"].recorded(name), CARD, Workspace.LOW, config).probe(golden.batch)
    found = probe.peak_allocated_bytes, probe.peak_reserved_bytes
    assert found == (golden.peak_allocated_bytes, golden.peak_reserved_bytes) == PEAKS_OF_EMPTYING[name]


CONVOLUTIONS = read(FOLDER / "convolutions-2.14.json.xz")


@pytest.mark.parametrize("name", convolutions.STEPS)
def test_convolutions_take_on_a_card_what_is_recorded_of_them(name):
    golden = CONVOLUTIONS.cells[name]
    source = KeptWorkspaces(FOLDER / "workspaces-2.14.json.xz")
    engine = SimulatedEngine(KINDS["convolutions"].recorded(name), CARD, workspaces=source)
    assert engine.knows_workspaces(golden.batch)
    found = compare(engine.events(golden.batch), golden.events)
    assert (found.temporaries, found.on_card, found.recorded) == ({}, {}, {})
    probe = engine.probe(golden.batch)
    assert probe.peak_allocated_bytes == golden.peak_allocated_bytes
    assert probe.peak_reserved_bytes == golden.peak_reserved_bytes


@pytest.mark.parametrize("name", [name for name in gradients.STEPS if name not in COMPOSITES])
def test_a_real_run_is_observed_in_the_same_way(name):
    step = gradients.STEPS[name]
    assert record_events(step, 2, torch.device("meta")) == record_events(step, 2, torch.device("cpu"))
