import pytest
import torch
from torch import nn

from bench.models import layers
from bench.models.dncnn import DnCNN
from bench.models.luser_block import LuserBlock


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("channels", "expected"), [(1, 556_032), (2, 557_184), (3, 558_336)])
@pytest.mark.parametrize("how", [{}, {"spectral": "matrix"}, {"spectral": "convolution", "normalises": False}])
def test_dncnn_parameters(channels, expected, how):
    assert count(DnCNN(channels, **how)) == expected


@pytest.mark.parametrize(("channels", "expected"), [(1, 93_953), (2, 95_106), (3, 96_259)])
def test_luser_block_parameters(channels, expected):
    assert count(LuserBlock(channels)) == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_dncnn_is_the_textbook_network(training, inplace):
    torch.manual_seed(0)
    network = DnCNN(2, features=8, depth=5, inplace=inplace)
    modules = [nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.ReLU()]
    for _ in range(3):
        modules += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    textbook = nn.Sequential(*modules, nn.Conv2d(8, 2, 3, padding=1, bias=False))
    for norm in (m for m in textbook if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var)
    state = [value for name, value in textbook.state_dict().items() if "tracked" not in name]
    network.load_state_dict(dict(zip(network.state_dict(), state, strict=True)))
    network.train(training)
    textbook.train(training)

    d = torch.randn(3, 2, 9, 9)
    torch.testing.assert_close(network(d, network.weights()), d + textbook(d))
    after = [value for name, value in textbook.state_dict().items() if "tracked" not in name]
    for mine, theirs in zip(network.state_dict().values(), after, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("inplace", [True, False])
def test_luser_block_is_table_1(inplace):
    torch.manual_seed(0)
    block = LuserBlock(3, inplace=inplace).eval()

    def layers(stack, norms):
        for layer in stack:
            conv = nn.Conv2d(layer.conv.in_channels, layer.conv.out_channels, 3, padding=1)
            conv.weight = nn.Parameter(layer.conv.normalised_weight())
            conv.bias = layer.conv.bias
            yield conv
            if conv.out_channels != 3:
                if norms:
                    yield nn.GroupNorm(4, conv.out_channels)
                yield nn.LeakyReLU(0.2)

    inject = nn.Sequential(*layers(block.inject, norms=False))
    data, mix = (nn.Sequential(*layers(stack, norms=True)) for stack in (block.data, block.mix))
    d, r = torch.randn(2, 2, 3, 8, 8)
    found = block.equilibrium(d, *block.weights())(r)
    torch.testing.assert_close(found, mix(torch.cat((data(r), inject(d)), dim=1)))


def test_momentum_context_is_undone_by_an_exception():
    network = DnCNN(1, features=4, depth=4)
    with pytest.raises(RuntimeError), network.momentum(None):
        raise RuntimeError
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(2, 1, 8, 8), network.weights())
    assert all(not torch.equal(value, before[name]) for name, value in network.named_buffers())


@pytest.mark.parametrize("momentum", [None, 0.0, 0.5])
def test_within_the_momentum_context_averages_move_by_so_much(momentum):
    torch.manual_seed(0)
    network = DnCNN(1, features=4, depth=4, momentum=1.0)
    d, weights = torch.randn(2, 1, 8, 8), network.weights()
    network(d, weights)
    whole = [norm.running_mean.clone() for norm in network.modules() if isinstance(norm, layers.BatchNorm)]
    for norm in network.modules():
        if isinstance(norm, layers.BatchNorm):
            norm.running_mean.zero_()
    with network.momentum(momentum):
        image = network(d, weights)
    moved = [norm.running_mean.clone() for norm in network.modules() if isinstance(norm, layers.BatchNorm)]
    torch.testing.assert_close(moved, [(momentum or 0.0) * each for each in whole])
    torch.testing.assert_close(network(d, weights), image)
    assert not torch.equal(network.eval()(d, weights), image)


def test_without_normalisation_noise_keeps_its_size():
    """Each BatchNorm only scales and shifts, from layer to layer by what convolution and ReLU take away."""
    torch.manual_seed(0)
    network = DnCNN(1, spectral="matrix", normalises=False)
    x = torch.randn(2, 64, 48, 48)
    with torch.no_grad():
        sizes = [float(x.square().mean())]
        for layer in network.layers[1:-1]:
            x = layers.run([layer], x, layers.weights_of([layer]))
            sizes.append(float(x.square().mean()))
    assert max(sizes) < 10 * min(sizes)  # a billion times with scales of 1
    for layer in network.layers[1:-2]:
        expected = 128**0.5 / layer.conv.normalised_weight().norm()
        torch.testing.assert_close(layer.norm.weight.detach(), expected.detach().expand(64), rtol=1e-5, atol=0)
    assert network.layers[-2].norm.weight.unique().tolist() == [1.0]  # the residual's scale
    norm = network.layers[3].norm
    x = torch.randn(2, 64, 5, 4)
    expected = x * norm.weight[:, None, None] + 0.5
    torch.testing.assert_close(norm.normalise(x, norm.weight, torch.full((64,), 0.5)), expected)
