"""What kernels take of their own, against calls that the virtual card answered."""

import itertools
import json
import lzma
import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording.device_sorting import radix_sort_bytes, scan_bytes, unique_bytes
from bench.memory.recording.recorder import events_of
from bench.memory.trace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.calls import AllCalls, by_call
from fidelity.kernels import CALLS

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "kernels-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))
OF_THE_CARD = 0.02  # of a call's peak: a sort's storage hangs on how many keys a block of the card takes


@pytest.fixture(scope="module")
def recorded():
    trace = record(AllCalls(CALLS))
    return {name: by_call(trace.on(CARDS[name]).at(1, Workspace.LOW))[: len(CALLS)] for name in ANSWERS}


def test_every_call_takes_what_it_takes_on_the_virtual_card(recorded):
    found = list(zip(CALLS, recorded["RTX 3080"], ANSWERS["RTX 3080"], strict=True))
    assert len(found) > 150
    assert [each for each in found if each[1] != each[2]] == []


@pytest.mark.parametrize("name", ["H200", "T4"])
def test_other_cards_differ_in_the_storage_of_sorts_alone(recorded, name):
    pairs = list(zip(recorded[name], ANSWERS[name], strict=True))
    different = [(told, took) for told, took in pairs if told != took]
    assert len(different) < 0.2 * len(pairs)
    for told, took in different:
        assert [each if each < 0 else 0 for each in told] == [each if each < 0 else 0 for each in took]
        assert peak_bytes(told) == pytest.approx(peak_bytes(took), rel=OF_THE_CARD)


def peak_bytes(events):
    """The most bytes at one time; -k frees the k-th allocation."""
    sizes = [event for event in events if event > 0]
    changes = [event if event > 0 else -sizes[-event - 1] for event in events]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [
        (radix_sort_bytes(2304, 8, 8, 64), 1),
        (radix_sort_bytes(2305, 8, 8, 6), 3583),
        (radix_sort_bytes(1_000_000, 8, 8, 9), 16_271_871),
        (radix_sort_bytes(1_000_000, 4, 8, 32), 12_342_527),
        (scan_bytes(7, 4), 1023),
        (scan_bytes(10_000_000, 4), 42_495),
        (scan_bytes(10_000_000, 8), 179_711),
        (unique_bytes(1_000_000), 51_199),
    ],
)
def test_storage_of_cub_on_the_virtual_rtx_3080(bytes_, expected):
    assert bytes_ == expected


def test_layer_norm_copies_what_lies_scattered():
    """As the virtual card does: the input, in both passes, beside each result; and the gradient of a sum."""

    def make_step(batch, device):
        norm = torch.nn.LayerNorm(64, device=device)
        values = torch.zeros(batch, 64, 100, device=device, requires_grad=True)
        return lambda: norm(values.transpose(1, 2)).sum().backward()

    recorded = events_of(make_step, 2, 1)
    copies = [
        event.op.split(".")[1]
        for event in recorded
        if "layer_norm" in event.op and event.size_bytes == 2 * 64 * 100 * 4
    ]
    assert (copies.count("native_layer_norm"), copies.count("native_layer_norm_backward")) == (2, 3)
