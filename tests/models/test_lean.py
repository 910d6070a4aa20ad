"""Layers whose outputs are made again, held against autograd's way, and the memory they take, counted."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import LiveBytes, Ops

from bench.models.dncnn import DnCNN
from bench.models.layers import BatchNorm, GroupNorm, Layer, count_weights, run, weights_of
from bench.models.lean import _is_kept, run_lean
from bench.models.luser_block import LuserBlock

LEAKY = partial(F.leaky_relu, negative_slope=0.3)
SHARES = (1.0, 0.5, 0.3)


def batch_norm(channels):
    return BatchNorm(channels, 0.25, normalises=True)


def stack(norm, activation, *, bias, depth=4):
    """`depth` layers inside, of which the second has neither norm nor activation, and a bare convolution."""
    torch.manual_seed(0)
    conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=bias)
    layers = [Layer(conv(2 if not k else 4, 4), norm and norm(4), activation) for k in range(depth)]
    layers[1] = Layer(conv(4, 4))
    for layer in layers:
        if layer.norm is not None:
            nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
            nn.init.normal_(layer.norm.bias)
    return [layer.double() for layer in (*layers, Layer(conv(4, 3)))]


STACKS = {
    "batch": (batch_norm, F.relu, False),
    "batch, no activation": (batch_norm, None, True),
    "group": (partial(GroupNorm, 2), LEAKY, True),
    "group, no activation": (partial(GroupNorm, 2), None, False),
    "none": (None, LEAKY, True),
}


def evaluated(how, layers, weights, x, wanted):
    """Output, gradients of x and weights, and running averages, of one evaluation; the averages start anew."""
    for layer in layers:
        if isinstance(layer.norm, BatchNorm):
            layer.norm.running_mean.zero_()
            layer.norm.running_var.fill_(1)
    leaves = [each.detach().clone().requires_grad_(want) for each, want in zip((x, *weights), wanted, strict=True)]
    image = how(layers, leaves[0], leaves[1:])
    torch.manual_seed(2)
    image.backward(torch.randn(image.shape, dtype=x.dtype).to(image.dtype))
    averages = [b.clone() for layer in layers for name, b in layer.named_buffers() if "running" in name]
    return image, [leaf.grad for leaf in leaves], averages


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", STACKS)
def test_values_gradients_and_averages_are_autograds(name, share, again):
    norm, activation, bias = STACKS[name]
    layers = stack(norm, activation, bias=bias)
    weights = list(weights_of(layers))
    assert count_weights(layers) == len(weights)
    torch.manual_seed(1)
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    image = torch.randn(3, 4, 6, 5, dtype=torch.float64)  # in place of the first bias

    def plain(layers, x, weights):
        return run(layers, x, iter(weights))

    def lean(layers, x, weights):
        return run_lean(layers, x, weights, share, again=again)

    everything = [True] * (1 + len(weights))
    cases = [(weights, everything), (weights, [False, *everything[1:]])]
    cases += [(weights, [k % n == 0 for k in range(1 + len(weights))]) for n in (2, 3)]
    if bias:
        with_image = [weights[0], image, *weights[2:]]
        cases += [(with_image, everything), (with_image, [k != 2 for k in range(1 + len(weights))])]
    for of, wanted in cases:
        expected, found = (evaluated(how, layers, of, x, wanted) for how in (plain, lean))
        assert torch.equal(found[0], expected[0])
        for one, other in zip(found[1], expected[1], strict=True):
            assert (one is None) is (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        assert len(found[2]) == (6 if norm is batch_norm else 0)
        assert all(torch.equal(one, other) for one, other in zip(found[2], expected[2], strict=True))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("norm", [batch_norm, partial(GroupNorm, 2)])
def test_under_autocast_gradients_have_the_types_of_the_weights(norm, again):
    layers = [layer.float() for layer in stack(norm, None, bias=True)]  # without signs that may turn
    x = torch.randn(3, 2, 6, 5)
    weights = list(weights_of(layers))
    exact, of_exact, _ = evaluated(lambda *of: run_lean(*of, 0.5), layers, weights, x, [True] * (1 + len(weights)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        how = lambda *of: run_lean(*of, 0.5, again=again)  # noqa: E731
        image, gradients, averages = evaluated(how, layers, weights, x, [True] * (1 + len(weights)))
    assert image.dtype is torch.bfloat16
    assert {each.dtype for each in (*gradients, *averages)} == {torch.float32}
    assert 1e-4 < (image - exact).norm() / exact.norm() < 3e-2
    for one, other in zip(gradients, of_exact, strict=True):
        assert (one - other).norm() < 0.05 * max(other.norm(), 1)


def test_which_layers_keep_their_output():
    kept = {share: [k for k in range(12) if _is_kept(k, share)] for share in (1.0, 0.75, 0.5, 1 / 3, 0.1, 0.01, 0.0)}
    assert kept == {
        1.0: list(range(12)),
        0.75: [1, 2, 3, 5, 6, 7, 9, 10, 11],
        0.5: [1, 3, 5, 7, 9, 11],
        1 / 3: [2, 5, 8, 11],
        0.1: [9],
        0.01: [],
        0.0: [],
    }
    assert [k for k in range(1000) if _is_kept(k, 0.7)] == [k for k in range(1000) if k % 10 in (1, 2, 4, 5, 7, 8, 9)]


def footprint(kept_share, again):
    """Planes of the batch alive after a forward pass, at its peak and at that of the backward pass.

    Five convolutions of 4 channels and one of 1 on two images of 8 x 8.
    """
    torch.manual_seed(0)
    network = DnCNN(1, features=4, depth=6)
    d, weights = torch.rand(2, 1, 8, 8, requires_grad=True), network.weights()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveBytes() as live:
        image = (network.forward_again if again else network)(d, weights, kept_share)
        held, forward = live.now, live.peak
        live.peak = 0
        image.backward(torch.ones(2, 1, 8, 8))
    return [each / d.nbytes for each in (held, forward, live.peak)]


STATISTICS = 2 * 4 / 128  # mean and inverse deviation of 4 channels, in planes of 128 numbers


@pytest.mark.parametrize(
    ("kept_share", "again", "held", "forward", "backward"),
    [
        # the output, and of each layer that keeps it a convolution's; at most what a layer reads, y and its norm
        (1.0, False, 1 + 5 * 4, 4 * 4 + 12 + STATISTICS, 35.03125),
        (0.5, False, 1 + 2 * 4, 2 * 4 + 12 + STATISTICS, 27.03125),
        (1 / 3, False, 1 + 1 * 4, 1 * 4 + 12 + STATISTICS, 25.96875),
        # nothing but the output; and in backward as above
        (1.0, True, 1, 12 + STATISTICS, 31.40625),
        (0.5, True, 1, 12 + STATISTICS, 23.40625),
        (1 / 3, True, 1, 12 + STATISTICS, 23.40625),
        # autograd's: y, its statistics and the activation of each
        (None, False, 1 + 4 + 4 * (8 + STATISTICS), 1 + 1 + 4 + 4 * (8 + STATISTICS), 46.25),
        (None, True, 1, 8 + STATISTICS, 46.25),
    ],
)
def test_planes_alive(kept_share, again, held, forward, backward):
    assert footprint(kept_share, again) == [held, forward, backward]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kept_share", [None, 0.5])
def test_a_network_that_is_run_again_is_the_same(kept_share, training):
    """Values, gradients, and averages that move once, however many layers at a time are checkpointed inside."""
    torch.manual_seed(0)
    network = DnCNN(1, features=4, depth=6).double().train(training)
    for layer in network.layers[1:-1]:
        nn.init.normal_(layer.norm.weight)
        nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    d = torch.randn(2, 1, 7, 8, dtype=torch.float64)
    start = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found = []
    for how in (network, *(partial(network.forward_again, layers=layers) for layers in (0, 1, 2, 4, 6, 9))):
        network.load_state_dict(start, strict=False)
        network.zero_grad()
        x = d.clone().requires_grad_()
        image = how(x, network.weights(), kept_share)
        image.square().sum().backward()
        found.append([image.detach(), x.grad, *(p.grad.clone() for p in network.parameters())])
        found[-1] += [buffer.clone() for buffer in network.buffers()]
    moved = [not torch.equal(b, start[name]) for name, b in network.named_buffers()]
    assert moved == [training] * 8
    for each in found[1:]:
        for one, other in zip(each, found[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_layers_are_checkpointed_once_more_inside():
    """Planes alive at the peak of backward: of the whole network, and of parts with what they begin from."""
    peaks = []
    for layers in (0, 1, 2, 3):
        network = DnCNN(1, features=4, depth=6)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        d = torch.rand(2, 1, 8, 8, requires_grad=True)
        with LiveBytes() as live:
            image = network.forward_again(d, network.weights(), None, layers)
            live.peak = 0
            image.sum().backward()
        peaks.append(live.peak / d.nbytes)
    assert peaks == [45.265625, 33.078125, 29.140625, 29.140625]


def test_without_a_gradient_nothing_is_kept():
    """As many planes as one layer takes, whatever share would be kept."""
    network, d = DnCNN(1, features=4, depth=6), torch.rand(2, 1, 8, 8)
    weights = network.weights()
    with torch.no_grad(), LiveBytes() as live:
        network(d, weights, 1.0)
    assert live.peak / d.nbytes == 8 + STATISTICS


def test_a_layers_output_is_let_go_before_a_wide_last_one():
    torch.manual_seed(0)
    layers = [Layer(nn.Conv2d(4, 4, 3, bias=False), batch_norm(4), F.relu) for _ in range(3)]
    layers.append(Layer(nn.Conv2d(4, 16, 3, bias=False)))
    x = torch.rand(2, 4, 8, 8, requires_grad=True)
    with LiveBytes() as live:
        image = run_lean(layers, x, list(weights_of(layers)), 0.01)
    assert live.peak == image.nbytes + x.nbytes  # what the last one reads, and what it gives


def test_an_image_in_place_of_a_bias_is_not_kept():
    layers = [layer.float() for layer in stack(batch_norm, F.relu, bias=True)]
    weights = list(weights_of(layers))
    x = torch.rand(2, 2, 8, 8)
    with LiveBytes() as live:
        image = 2 * weights[1][:, None, None].expand(2, 4, 8, 8)
        result = run_lean(layers, x, [weights[0], image, *weights[2:]], 1.0)
        del image
    plane = 2 * 64 * 4
    assert live.now == result.nbytes + 4 * 4 * plane


def test_how_often_norms_are_taken_in_backward():
    """Of four norms each once for its own gradient, and once for what the next convolution has read."""
    torch.manual_seed(0)
    network = DnCNN(1, features=4, depth=6)
    image = network(torch.rand(2, 1, 8, 8), network.weights(), 1.0)
    with Ops() as ops:
        image.sum().backward()
    assert ops.names.count("aten.native_batch_norm.default") == 8


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("share", SHARES)
def test_a_lean_block_is_the_block(share, training):
    """Its first mixing convolution in two parts, of what is injected and of the rest; in evaluation mode as ever."""
    found = {}
    for kept_share in (None, share):
        torch.manual_seed(0)
        block = LuserBlock(2, kept_share=kept_share).double()
        for name, parameter in block.named_parameters():
            if "norm" in name:
                nn.init.uniform_(parameter, 0.5, 1.5)
        block.train(training)
        d, r = (torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
        f = block.equilibrium(d, *block.weights())
        with torch.no_grad():
            without = f(r)
        image = f(r)
        torch.testing.assert_close(without, image.detach(), rtol=1e-12, atol=1e-12)
        image.square().sum().backward()
        found[kept_share] = [image.detach(), d.grad, r.grad, *(p.grad for p in block.parameters())]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def planes_of_a_block(kept_share, grad, training=True):
    """Planes alive before f(r), after it, of those that it made, and at its peak."""
    block = LuserBlock(1, kept_share=kept_share).train(training)
    d, r = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8, requires_grad=True)
    weights = block.weights()
    with LiveBytes() as live:
        f = block.equilibrium(d, *weights)
        before, live.peak = live.now, live.now
        with torch.set_grad_enabled(grad):
            image = f(r)
    assert image.shape == r.shape
    return [before / r.nbytes, *((each - before) / r.nbytes for each in (live.now, live.peak))]


def test_planes_of_a_lean_block():
    halves = 2 * 64 * 32 * 9 / 128  # of the first mixing kernel
    before, held, _ = planes_of_a_block(1.0, grad=True)
    assert before == 64 + halves  # what is injected
    assert held == 1 + 32 + 32 + 64 + 64  # the output, and the convolutions of data and mix
    _, held, _ = planes_of_a_block(0.5, grad=True)
    assert held == 1 + 32 + 64  # the second and the fourth
    _, held, peak = planes_of_a_block(1.0, grad=False)
    assert held == 1 and peak < 3 * 64
    assert planes_of_a_block(1.0, grad=True, training=False) == planes_of_a_block(None, grad=True, training=False)
