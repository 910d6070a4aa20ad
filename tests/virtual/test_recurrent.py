"""What cuDNN takes for recurrent layers, as the virtual card has it from the real library."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.virtual.goldens import read
from tests.fidelity import recurrent
from tools.virtual_goldens.kinds import KINDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/golden/virtual"
RELEASES = ("2.11", "2.13", "2.14", "2.15")
GOLDENS = {release: read(FOLDER / f"recurrent-{release}.json.xz").cells for release in RELEASES}

# What the backward pass needs of each step of a sequence: the activations of gates, and a state if there is another.
NUMBERS_KEPT = {"lstm": 5, "gru": 6, "rnn": 1}
ALIGNED_BYTES = 256


def sizes(golden):
    return [size for _, size in golden.events]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", NUMBERS_KEPT)
@pytest.mark.parametrize(("way", "width"), [("", recurrent.WIDTH), ("_wide", 512)])
@pytest.mark.parametrize(("precision", "size_bytes"), [("", 4), ("_in_half", 2)])
def test_the_reserve_is_what_the_backward_pass_needs(release, name, way, width, precision, size_bytes):
    """One layer: so many numbers for each sample, step and unit, and taken in training alone."""
    numbers = KINDS["recurrent"].batch * recurrent.LENGTH * width * NUMBERS_KEPT[name]
    reserve = numbers * size_bytes + ALIGNED_BYTES
    assert sizes(GOLDENS[release][f"{name}{way}{precision}"]).count(reserve) == KINDS["recurrent"].steps
    assert reserve not in sizes(GOLDENS[release][f"{name}{way}_evaluated{precision}"])


@pytest.mark.parametrize("release", RELEASES)
def test_random_states_of_dropout_are_as_many_as_the_card_has_threads(release):
    """A state of 48 bytes for every second of 68 x 1,536 threads, once and for all; none where nothing is dropped."""
    states = 68 * 1536 // 2 * 48
    for name, golden in GOLDENS[release].items():
        drops = ("deep" in name and "evaluated" not in name) or name in ("lstm_under_autocast", "lstm_language_model")
        made = KINDS["recurrent"].steps if "seeded" in name else drops
        assert sizes(golden).count(states) == made, name
        assert golden.lower_bounds == ()


PYTHON = os.environ.get("BENCH_CUDA_PYTHON", "")

# cuDNN's forward pass is asked for more than its sizes: it goes on to the device, which there is none for it, with the
# sizes that it told, and refuses a byte less.
ASKED = """
import ctypes, itertools
from ctypes import byref, c_double, c_float, c_int, c_size_t, c_ulonglong, c_void_p
import torch
torch.ones(1, device="cuda")
card, cudnn = ctypes.CDLL(None), ctypes.CDLL("libcudnn.so.9")
NO_DEVICE, REFUSED, STANDARD, PERSISTENT, SMALL = 5003, 2000, 0, 1, 3
STEPS, BATCH, IN, POINTER = 16, 8, 128, c_void_p(1 << 44)

def made(create, *arguments):
    thing = c_void_p()
    assert not getattr(cudnn, create)(byref(thing))
    return thing

def set_up(function, *arguments):
    status = (getattr(card, function, None) or getattr(cudnn, function))(*arguments)
    assert not status, (function, status)

handle = c_void_p()
set_up("cudnnCreate", byref(handle))
asked = 0
for mode, type_, layers, both, algorithm, training in itertools.product(
    range(4), (0, 1, 2), (1, 3), (0, 1), (STANDARD, PERSISTENT, SMALL), (0, 1)
):
    if type_ == 1 and algorithm != STANDARD:
        continue  # cuDNN has no such kernel
    width = 64 if algorithm == SMALL else 256
    dropout, network = made("cudnnCreateDropoutDescriptor"), made("cudnnCreateRNNDescriptor")
    bytes_ = c_size_t()
    set_up("cudnnDropoutGetStatesSize", handle, byref(bytes_))
    states = (POINTER, bytes_) if layers > 1 else (None, c_size_t(0))
    set_up("cudnnSetDropoutDescriptor", dropout, handle, c_float(0.5 * (layers > 1)), *states, c_ulonglong(0))
    set_up("cudnnSetRNNDescriptor_v8", network, algorithm, mode, 2, both, 0, type_, int(type_ == 1), int(type_ == 2),
           IN, width, width, layers, dropout, 1)
    x, y = made("cudnnCreateRNNDataDescriptor"), made("cudnnCreateRNNDataDescriptor")
    lengths, fill = (c_int * BATCH)(*[STEPS] * BATCH), c_double(0)
    for data, numbers in ((x, IN), (y, width * (1 + both))):
        set_up("cudnnSetRNNDataDescriptor", data, type_, 0, STEPS, BATCH, numbers, lengths, byref(fill))
    h = made("cudnnCreateTensorDescriptor")
    shape = (layers * (1 + both), BATCH, width)
    set_up("cudnnSetTensorNdDescriptor", h, type_, 3, (c_int * 3)(*shape), (c_int * 3)(BATCH * width, width, 1))
    work, kept, weights = c_size_t(), c_size_t(), c_size_t()
    set_up("cudnnGetRNNTempSpaceSizes", handle, network, training, x, byref(work), byref(kept))
    set_up("cudnnGetRNNWeightSpaceSize", handle, network, byref(weights))

    def forward(work, kept):
        return cudnn.cudnnRNNForward(
            handle, network, training, POINTER, x, POINTER, y, POINTER, h, POINTER, POINTER, h, POINTER, POINTER,
            weights, POINTER, c_size_t(work), POINTER, c_size_t(kept), POINTER)

    case = (mode, type_, layers, both, algorithm, training, work.value, kept.value)
    assert forward(work.value, kept.value) == NO_DEVICE, case
    assert forward(work.value - 1, kept.value) == REFUSED, case
    assert not training or forward(work.value, kept.value - 1) == REFUSED, case
    asked += 1
print(asked)
"""


@pytest.mark.skipif(not PYTHON, reason="BENCH_CUDA_PYTHON names no python with a CUDA build of PyTorch")
@pytest.mark.parametrize("card", ["Quadro RTX 6000", "RTX 3080", "H100 SXM"])
def test_cudnns_own_forward_pass_takes_these_sizes_and_no_byte_less(tmp_path, card):
    """Every kind of layer, type, depth (with dropout), direction and algorithm that PyTorch chooses from."""
    script = tmp_path / "asked.py"
    script.write_text(ASKED)
    command = [PYTHON, "-m", "bench.virtual", card, script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 224
