"""The workspace of cuDNN's batch normalisation in channels last, against what cuDNN 9.24 answered on virtual cards."""

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.allocator.caching import FREE
from bench.memory.normalisation import Normalisation
from bench.memory.staging import DropoutStates, affine_staged
from bench.memory.trace import Workspace

# Pixels of all images, channels, and the bytes: forward in float32, in float16, and backward.
ANSWERS = [
    (2, 64, 1592, 1592, 1572),
    (128, 64, 2108, 1592, 2084),
    (512, 64, 5204, 3140, 4132),
    (32_768, 64, 265_268, 106_856, 176_164),
    (200_704, 64, 1_619_252, 648_656, 1_071_652),
    (2048, 20, 17_588, 7784, 12_324),
    (2048, 128, 34_104, 14_496, 23_592),
    (128, 2048, 34_224, 17_712, 33_952),
    (4551, 1, 1724, 1364, 1444),
    (32_768, 3, 5684, 2948, 3812),
    (2048, 4, 17_588, 7784, 12_324),
    (4551, 5, 10_580, 4904, 7204),
    (32_768, 66, 339_012, 136_392, 219_956),
    (4551, 258, 162_708, 66_216, 105_572),
]


@pytest.mark.parametrize(("pixels", "channels", "of_floats", "of_halves", "backward"), ANSWERS)
def test_workspaces_are_those_of_cudnn(pixels, channels, of_floats, of_halves, backward):
    told = [
        Normalisation(pixels, channels, is_forward, is_half).bytes_at(1, [])
        for is_forward, is_half in ((True, False), (True, True), (False, False), (False, True))
    ]
    assert told == [of_floats, of_halves, backward, backward]


def test_pixels_are_affine_in_the_batch():
    one, other = Normalisation(2 * 49 + 7, 64, True, False), Normalisation(3 * 49 + 7, 64, True, False)
    at_all = affine_staged(one, other, 2)
    assert at_all.at(2) == one and at_all.at(3) == other
    assert [at_all.bytes_at(batch, []) for batch in (1, 40)] == [
        Normalisation(49 * batch + 7, 64, True, False).bytes_at(1, []) for batch in (1, 40)
    ]
    assert affine_staged(one, other._replace(channels=32), 2) is None
    assert at_all.launches_at(2, []) == ()
    assert affine_staged(one, DropoutStates(), 2) is None
    assert affine_staged(DropoutStates(), one, 2) is None


@pytest.mark.parametrize(("layout", "takes"), [(torch.channels_last, True), (torch.contiguous_format, False)])
def test_a_layer_takes_it_where_its_channels_lie_last(layout, takes):
    """Of 7 x 7 pixels, which no block divides: at every batch as much as cuDNN takes there."""

    def make_step(batch, device):
        layer = torch.nn.BatchNorm2d(64).to(device)
        images = torch.rand(batch, 64, 7, 7, device=device).contiguous(memory_format=layout).requires_grad_()
        return lambda: layer(images).sum().backward()

    trace = record(make_step).on(CARDS["RTX 3080"])
    for batch in (1, 5, 33):
        freed = {key for key, size in trace.at(batch, Workspace.LOW) if size is FREE}
        taken = [size for key, size in trace.at(batch, Workspace.LOW) if key in freed]
        for is_forward in (True, False):
            expected = Normalisation(49 * batch, 64, is_forward, False).bytes_at(batch, [])
            assert taken.count(expected) == (2 if takes else 0)


def test_float64_and_evaluation_take_none():
    for dtype, is_training in ((torch.float64, True), (torch.float32, False)):

        def make_step(batch, device, dtype=dtype, is_training=is_training):
            layer = torch.nn.BatchNorm2d(64, dtype=dtype).to(device).train(is_training)
            images = torch.rand(batch, 64, 7, 7, device=device, dtype=dtype).contiguous(
                memory_format=torch.channels_last
            )
            return lambda: layer(images)

        assert not record(make_step).on(CARDS["RTX 3080"]).reductions
