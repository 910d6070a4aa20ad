"""Steps of every kind that people write, recorded, against what the virtual card did (tests/fidelity/everyday)."""

import copy
import warnings
from pathlib import Path

import pytest
import torch

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.recording.values import AssumedValue
from bench.memory.simulated import installed_release
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import read
from tests.fidelity import everyday
from tools.virtual_goldens.kinds import KINDS

RELEASES = ("2.13", "2.14", "2.15")
FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
GOLDENS = {release: read(FOLDER / f"everyday-{release}.json.xz") for release in RELEASES}

# What differs today: temporaries of the card, by bytes; other allocations of the card alone, of the recording alone.
DIFFERENCES = {
    # What the thread of gradients frees last, the card frees before or after the program's next allocation.
    "along_a_flow 2.13": ({}, {1024: 2}, {1024: 2}),
    # cuFFT's, in the low bound nothing.
    "phases": ({32768: 5}, {32768: 3}, {}),
    "phases 2.15": ({32768: 6}, {32768: 2}, {}),
    # cuDNN's workspace where a width is no multiple of 16.
    "tagger_with_transitions": ({16992256: 4}, {16992256: 2}, {16992768: 6}),
    "tagger_with_transitions 2.15": ({16900096: 4}, {16900096: 2}, {16900608: 6}),
    # Of scattered means backward.
    "messages_along_edges": ({}, {25600: 2, 512: 2}, {25600: 2}),
    # LU factors, orthogonal weights, quantiles, nn.Bilinear.
    "coupled_layers": ({512: 40}, {}, {}),
    "normalised_weights": ({512: 16, 4096: 2, 16384: 4, 32768: 2}, {512: 4, 4096: 4, 16384: 4}, {8192: 2}),
    "normalised_weights 2.15": (
        *({512: 16, 4096: 3, 16384: 4, 32768: 2}, {512: 4, 4096: 3, 16384: 4}),
        {8192: 2},
    ),
    "counted_and_sorted": ({512: 4}, {}, {4096: 2, 1536: 2}),
    "counted_and_sorted 2.13": ({512: 2}, {}, {4096: 2}),
    "lazily_shaped": ({}, {512: 1, 8519680: 1, 4096: 1}, {8519680: 1}),
    "lazily_shaped 2.15": ({}, {}, {}),
}
RELEASE = RELEASES[sum(installed_release() >= each for each in ((2, 14), (2, 15)))]
OF_CUBLAS = {"2.15": (8_519_680, 2**20)}  # taken anew for each call, which is not compared here


def test_there_is_an_answer_for_every_step():
    for goldens in GOLDENS.values():
        assert list(goldens.cells) == list(everyday.STEPS)
        assert goldens.card == KINDS["everyday"].card.name


@pytest.mark.parametrize("name", everyday.STEPS)
def test_the_recording_allocates_what_a_card_does(name):
    """Temporaries are counted where there are no convolutions, whose workspaces the low bound has not."""
    golden = GOLDENS[RELEASE].cells[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumedValue)
        trace = KINDS["everyday"].recorded(name)
    found = compare(trace.at(golden.batch, Workspace.LOW), golden.events)
    for size_bytes in OF_CUBLAS.get(RELEASE, ()):
        del found.temporaries[size_bytes], found.on_card[size_bytes]
    temporaries, on_card, recorded = DIFFERENCES.get(f"{name} {RELEASE}", DIFFERENCES.get(name, ({}, {}, {})))
    assert (found.on_card, found.recorded) == (on_card, recorded)
    assert trace.convolutions or found.temporaries == temporaries


@pytest.mark.parametrize("name", everyday.REFUSED[:2])  # the third only before PyTorch has its rules of jvp
def test_what_a_recording_cannot_do_is_refused(name):
    with on_cuda(), pytest.raises((NotRecordableError, NotImplementedError)):
        events_of(everyday.ALL[name], 4, 1)


def test_numbers_made_on_the_host_take_nothing_of_the_card():
    """Products, permutations and sums of a spectral norm, a loader or a log, before anything is moved."""

    def make_step(batch, device):
        matrix = torch.ones(64, 64)
        return lambda: (torch.mv(matrix, matrix[0]), torch.randperm(10_000), matrix.sum(), matrix.sort())

    with on_cuda():
        assert events_of(make_step, 2, 2) == []


def test_a_copied_buffer_has_all_of_its_storage_and_shares_it():
    """Tensor.__deepcopy__ on a card: the storage as it is, and one number for a moment."""

    def make_step(batch, device):
        rows = torch.rand(10, 100, device=device)

        def step():
            whole, row = copy.deepcopy([rows, rows[2]])
            assert whole.shape == (10, 100) and row.storage_offset() == 200
            assert whole.untyped_storage()._cdata == row.untyped_storage()._cdata

        return step

    with on_cuda():
        sizes = [event.size_bytes for event in events_of(make_step, 2, 1)]
    assert [size for size in sizes if size > 0] == [4000, 4000, 4, 4]


def test_inference_mode_takes_what_no_grad_takes():
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Dropout(), torch.nn.ReLU())

    def under(mode):
        def make_step(batch, device):
            net = layers.to(device).eval()

            def step():
                with mode():
                    return net(torch.rand(batch, 3, 16, 16, device=device)).softmax(1).max().item()

            return step

        with on_cuda(), warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumedValue)
            return events_of(make_step, 2, 2)

    assert len(under(torch.no_grad)) > 10
    assert under(torch.inference_mode) == under(torch.no_grad)
