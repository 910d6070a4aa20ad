"""Layers whose outputs are made again, held against autograd's way, and the memory they take, counted."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import LiveBytes

from bench.models.dncnn import DnCNN
from bench.models.layers import BatchNorm, GroupNorm, Layer, count_weights, run, weights_of
from bench.models.lean import _is_kept, run_lean

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
    ],
)
def test_planes_alive(kept_share, again, held, forward, backward):
    assert footprint(kept_share, again) == [held, forward, backward]
