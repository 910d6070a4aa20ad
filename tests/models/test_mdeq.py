"""MDEQ: its map from the equations, its parameters, and its implicit gradient against backpropagation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toys import Ops, difference

from bench import models
from bench.models.anderson import SolverOptions
from bench.models.architectures.mdeq import MDEQOptions
from bench.models.multiscale import Multiscale
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

TASKS = {
    "deblurring": lambda **kw: GaussianBlur((3, 11, 10), **kw),
    "ct": lambda **kw: Radon(image_size=11, detectors=16, angles=8, **kw),
    "mri": lambda **kw: MRI((2, 10, 13), **kw),
}
SMALL = MDEQOptions(width=4, expansion=2, groups=2)
SOLVER = SolverOptions(max_evaluations=100, tolerance=1e-12, check_every=1)


def build(task="ct", own=SMALL, **options):
    torch.manual_seed(0)
    options = replace(models.Options(), **{"stages": 2, "solver": SOLVER, "mdeq": own} | options)
    model = models.get("MDEQ")(TASKS[task](dtype=torch.float64), options).double()
    return model, torch.rand(2, *model.operator.measurement_shape, dtype=torch.float64)


def normalised(x, groups, norm):
    """GroupNorm, from its definition."""
    grouped = x.reshape(len(x), groups, -1)
    mean = grouped.mean(2, keepdim=True)
    variance = (grouped - mean).square().mean(2, keepdim=True)
    plain = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    return plain * norm.weight[:, None, None] + norm.bias[:, None, None]


def two_branches(network, z1, z2, u, groups):
    """The paper's figure 2 for two branches, written out."""
    b1, b2 = network.blocks

    def block(b, z, u):
        inner = F.relu(normalised(F.conv2d(z, b.conv1.weight, padding=1), groups, b.norm1))
        inner = F.conv2d(inner, b.conv2.weight, padding=1) + u
        return normalised(F.relu(normalised(inner, groups, b.norm2) + z), groups, b.norm3)

    x1, x2 = block(b1, z1, u), block(b2, z2, 0)
    down, up = network.fusions["0_1"], network.fusions["1_0"]
    lower = x2 + normalised(F.conv2d(x1, down[0].weight, stride=2, padding=1), groups, down[1])
    small = normalised(F.conv2d(x2, up[0].weight), groups, up[1])
    rows, columns = (torch.arange(side) * half // side for side, half in zip(z1.shape[2:], z2.shape[2:], strict=True))
    upper = x1 + small[:, :, rows][:, :, :, columns]
    return [
        normalised(F.conv2d(F.relu(x), conv.weight), groups // 2, norm)
        for x, (conv, norm) in zip((upper, lower), network.last, strict=True)
    ]


@pytest.mark.parametrize("sides", [(8, 6), (7, 9), (5, 5)])
def test_the_map_is_that_of_the_equations(sides):
    torch.manual_seed(0)
    network = Multiscale(2, 8, 3, 4, 0.7).double()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    height, width = sides
    half = (height + 1) // 2, (width + 1) // 2
    assert network.sides(*sides) == [sides, half]
    z1, z2 = torch.randn(2, 8, *sides, dtype=torch.float64), torch.randn(2, 8, *half, dtype=torch.float64)
    u = torch.randn(2, 8, *sides, dtype=torch.float64)
    found = network(torch.cat((z1.flatten(1), z2.flatten(1)), 1), u)
    expected = two_branches(network, z1, z2, u, 4)
    torch.testing.assert_close(network.parted(found, *sides), expected)


@pytest.mark.parametrize("branches", [1, 2, 3, 4])
def test_parameters_are_those_of_the_blocks(branches):
    """Of width w, expansion e and n branches, from the paper's figure 2; GN has two numbers a channel."""
    w, e = 24, 5
    block = 9 * w * e * w * 2 + 2 * e * w + 2 * 2 * w
    downwards = sum(to - of for to in range(branches) for of in range(to)) * (9 * w * w + 2 * w)
    upwards = branches * (branches - 1) // 2 * (w * w + 2 * w)
    last = branches * (w * w + 2 * w)
    network = Multiscale(branches, w, e, 8, 1.0)
    expected = branches * block + downwards + upwards + last
    assert sum(p.numel() for p in network.parameters()) == expected
    assert branches != 2 or expected == 111_456
    u = torch.randn(1, w, 19, 16)
    sizes = sum(h * v for h, v in network.sides(19, 16))
    assert network(torch.randn(1, w * sizes), u).shape == (1, w * sizes)


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_branches_are_joined_where_they_differ_alone(branches):
    torch.manual_seed(0)
    network = Multiscale(branches, 4, 2, 2, 0.7).double()
    assert set(network.fusions) == {f"{of}_{to}" for of in range(branches) for to in range(branches) if of != to}
    assert all(each.inplace for each in network.fusions.modules() if isinstance(each, torch.nn.ReLU))
    z = torch.randn(2, 4 * sum(h * w for h, w in network.sides(5, 6)), dtype=torch.float64, requires_grad=True)
    u = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    with Ops() as ops:
        found = network(z, u)
    assert ops.names.count("aten.upsample_nearest2d.default") == branches * (branches - 1) // 2
    assert ops.names.count("aten.clone.default") == 0
    (of_z,) = torch.autograd.grad(found.sum(), z)
    step = torch.randn_like(z)
    with torch.no_grad():
        change = (network(z + 1e-6 * step, u) - network(z - 1e-6 * step, u)).sum() / 2e-6
    assert float((of_z * step).sum()) == pytest.approx(float(change), rel=1e-4, abs=1e-6)


def test_parameters_of_the_whole_network():
    with torch.device("meta"):
        model = models.get("MDEQ")(MRI((2, 320, 320), device="meta"), models.Options())
    inject, head = 9 * 2 * 24 + 9 * 24 * 24 + 4 * 24, 9 * 24 * 2 + 2
    assert model.trainable_parameters == 111_456 + inject + head + 1


def unrolled(model, y, evaluations=60):
    """The same network by plain iteration, through which autograd goes."""
    x = model.initial_estimate(y)
    for _ in range(model.options.stages):
        d = model.gradient_step(x, y, model.step)
        f = model.equilibrium(model.inject(d), *model.map.parameters())
        z = d.new_zeros(len(d), 4 * sum(h * w for h, w in model.map.sides(*d.shape[2:])))
        for _ in range(evaluations):
            z = f(z)
        x = d + model.head(model.map.parted(z, *d.shape[2:])[0])
    return x


@pytest.mark.parametrize("gradient", ["one-graph", "two-graph", "recomputed"])
@pytest.mark.parametrize("task", TASKS)
def test_the_implicit_gradient_is_that_of_many_unrolled_steps(task, gradient):
    model, y = build(task, gradient=gradient, initial_residual_scale=0.1)
    result = model(y)
    assert [bool((solve.residuals <= 1e-11).all()) for solve in result.solves] == [True, True]
    result.image.square().sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    image = unrolled(model, y)
    torch.testing.assert_close(result.image, image, rtol=1e-9, atol=1e-9)
    image.square().sum().backward()
    assert all(p.grad.norm() > 0 for p in model.parameters())
    assert difference(found, [p.grad for p in model.parameters()]) < 1e-6


@pytest.mark.parametrize("branches", [1, 2])
def test_fixed_points_are_found_from_the_start(branches):
    model, y = build("ct", MDEQOptions(branches=branches), solver=SolverOptions())
    with torch.no_grad():
        assert all((solve.residuals <= 1e-3).all() for solve in model(y).solves)


def test_more_branches_than_the_image_can_be_halved_are_refused():
    with pytest.raises(
        ValueError, match=r"^4 branches need sides of at least 16 pixels, got 10; choose fewer branches$"
    ):
        build("deblurring", replace(SMALL, branches=4))
