"""i-RIM: its parameters as published, its inverse, and its backward pass against plain autograd."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from toys import LiveBytes, difference

from bench import models
from bench.models.architectures.base import ModelOptions
from bench.models.architectures.irim import IRIMOptions
from bench.models.invertible import Coupling, Update
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

TASKS = {
    "deblurring": lambda **kw: GaussianBlur((3, 11, 10), **kw),
    "ct": lambda **kw: Radon(image_size=11, detectors=16, angles=8, **kw),
    "mri": lambda **kw: MRI((2, 10, 13), **kw),
}
SMALL = IRIMOptions(channels=8, hidden=(6, 5, 7), strides=(1, 2, 4))  # no side is a multiple of 4
FASTMRI = IRIMOptions(
    hidden=(64, 64, 128, 128, 256, 1024, 1024, 256, 128, 128, 64, 64), strides=(1, 1, 2, 2, 4, 8, 8, 4, 2, 2, 1, 1)
)


def build(task="ct", own=SMALL, dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = replace(models.Options(), **{"stages": 3, "i_rim": own} | options)
    model = models.get("i-RIM")(TASKS[task](dtype=dtype), options).to(dtype)
    return model, torch.rand(2, *model.operator.measurement_shape, dtype=dtype)


def gradients(task, own, all_iterates):
    model, y = build(task, own)
    y.requires_grad_()
    result = model(y, all_iterates=all_iterates)
    images = result.iterates if all_iterates else [result.image]
    sum(k * image.square().sum() for k, image in enumerate(images, start=1)).backward()
    return images, [*(p.grad for p in model.parameters()), y.grad]


@pytest.mark.parametrize("all_iterates", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_walk_back_gives_the_gradients_of_autograd(task, all_iterates):
    images, found = gradients(task, SMALL, all_iterates)
    expected_images, expected = gradients(task, replace(SMALL, invertible=False), all_iterates)
    assert len(images) == (3 if all_iterates else 1)
    assert all(map(torch.equal, images, expected_images))
    assert all(each.norm() > 0 for each in expected)
    assert difference(found, expected) < 1e-10


@pytest.mark.parametrize("task", TASKS)
def test_it_can_be_reversed(task):
    model, y = build(task, replace(SMALL, invertible=False))
    state = torch.randn(2, 8, *model.operator.image_shape[1:], dtype=torch.float64)
    after = state
    data = model.operator
    with torch.no_grad():
        for step in model.steps:  # from the definition
            x, c = after[:, : model.channels], model.channels
            after = after.clone()
            after[:, c : 2 * c] += data.adjoint(data(x.contiguous()) - y)
            for layer in step:
                after = layer(after, y)
        assert (after - state).norm() > 0.2 * state.norm()
        assert difference([model.reverse(after, y)], [state]) < 1e-12


def test_a_coupling_is_what_it_says():
    """W is a product of three reflections, and F reads the first half of W x alone."""
    torch.manual_seed(0)
    layer = Coupling(6, 5, 2).double()
    W = layer.rotation().detach()
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(W @ W.T, eye)
    assert torch.linalg.det(W).item() == pytest.approx(-1)
    a, b, c = (eye - 2 * torch.outer(n, n) / n.dot(n) for n in layer.normals.detach())
    torch.testing.assert_close(W, a @ b @ c)
    x = torch.randn(1, 6, 4, 5, dtype=torch.float64)
    mixed = torch.einsum("ij,bjhw->bihw", W, x)
    changed = torch.cat((mixed[:, :3], mixed[:, 3:] + layer.update(mixed[:, :3])), 1)
    torch.testing.assert_close(layer(x, x), torch.einsum("ji,bjhw->bihw", W, changed))


@pytest.mark.parametrize("sides", [(8, 8), (9, 11), (7, 4)])
def test_an_update_keeps_every_size(sides):
    """The rest beyond the last whole stride has no input: GLU of nothing is 0."""
    update = Update(3, 3, 5, 4)
    found = update(torch.randn(2, 3, *sides))
    assert found.shape == (2, 3, *sides)
    whole = [side // 4 * 4 for side in sides]
    assert found[:, :, : whole[0], : whole[1]].abs().min() > 0
    assert found[:, :, whole[0] :].abs().sum() + found[:, :, :, whole[1] :].abs().sum() == 0


@pytest.mark.parametrize(
    ("own", "expected"), [(IRIMOptions(), 699_072), (FASTMRI, 275_206_144)], ids=["small", "fastMRI"]
)
def test_parameters_are_those_of_the_formula(own, expected):
    """For each layer 96 h d^2 + 9 h^2 + 5 h of F and 3 x 64 of the reflections; the paper's network has 275 million."""
    layers = zip(own.hidden, own.strides, strict=True)
    assert 8 * sum(96 * h * d**2 + 9 * h**2 + 5 * h + 192 for h, d in layers) == expected
    options = replace(models.Options(), i_rim=own)
    with torch.device("meta"):
        model = models.get("i-RIM")(MRI((2, 320, 320), device="meta"), options)
    assert model.trainable_parameters == model.paper_parameters == expected


def peak(stages, own):
    model, y = build("deblurring", own, torch.float32, stages=stages)
    model(y).image.sum().backward()
    with LiveBytes() as live:
        model(y).image.sum().backward()
    return live.peak / (y[:, :1].nbytes)


def test_memory_is_flat_in_the_number_of_steps():
    own = replace(SMALL, channels=32)
    few, more, many = (peak(k, own) for k in (2, 4, 8))
    parameters = sum(p.numel() for p in build(own=own, stages=1)[0].parameters()) / (2 * 110)
    for one, other, steps in ((few, more, 2), (more, many, 4)):
        assert other - one < 1.5 * steps * parameters  # nothing but the gradients of the weights
    plain = [peak(k, replace(own, invertible=False)) for k in (2, 4)]
    assert (plain[1] - plain[0]) / 2 > 3 * (5 * 32)  # five states for each of three layers


def test_the_operator_is_applied_once_more_a_step_to_walk_back_and_once_for_the_gradient():
    calls = {}
    for invertible in (True, False):
        model, y = build("ct", replace(SMALL, invertible=invertible))
        model.operator.calls.reset()
        image = model(y).image
        assert (model.operator.calls.forward, model.operator.calls.adjoint) == (3, 4)  # with x_0
        image.sum().backward()
        calls[invertible] = (model.operator.calls.forward, model.operator.calls.adjoint)
    assert calls[True] == (9, 10)
    assert calls[False] == (5, 6)  # the first step's state trains nothing


@pytest.mark.parametrize(("every", "of_y"), [(1, False), (2, True), (3, True), (1000, True), (2, False)])
def test_what_is_not_trained_gets_no_gradient(every, of_y):
    """All weights but the first, the third and so on; and the measurement, wanted or not."""
    found = []
    for invertible in (True, False):
        model, y = build("mri", replace(SMALL, invertible=invertible))
        for number, parameter in enumerate(model.steps.parameters()):
            parameter.requires_grad_(number % every == every - 1)
        y.requires_grad_(of_y)
        model(y).image.square().sum().backward()
        found.append([y.grad, *(p.grad for p in model.steps.parameters())])
    assert (found[0][0] is None) is not of_y
    for one, other in zip(*found, strict=True):
        assert (one is None) is (other is None)
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_planes_of_a_layer_that_is_undone():
    """One of 64 channels with 1 hidden channel, so that states are all that counts."""
    torch.manual_seed(0)
    layer, y = Coupling(64, 1, 1), torch.zeros(1)
    state, g = torch.randn(2, 64, 16, 16), torch.randn(2, 64, 16, 16)
    with LiveBytes() as live:
        layer.undo(state, y, g)
    assert 7.88 < live.peak / state.nbytes < 7.89  # were what F gives still there, half a state more


def test_single_precision_drifts_by_its_own_rounding():
    model, y = build("mri", IRIMOptions(), torch.float32, stages=8)
    exact, _ = build("mri", replace(IRIMOptions(), invertible=False), stages=8)
    for each, measurement in ((model, y), (exact, y.double())):
        each(measurement).image.square().mean().backward()
    drift = [
        difference([one.grad.double()], [other.grad])
        for one, other in zip(model.parameters(), exact.parameters(), strict=True)
    ]
    assert 1e-8 < max(drift) < 1e-2


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (replace(SMALL, channels=4), "images of 3 channels need channels of at least 6, got 4"),
        (replace(SMALL, strides=(1, 2, 16)), "strides of 16 pixels step over images of 10; choose smaller strides"),
    ],
)
def test_what_does_not_fit_an_image_is_refused(own, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        build("deblurring", own)


def test_checkpoints_are_refused():
    with pytest.raises(ValueError, match="i-RIM has no stages to checkpoint; its layers are made again from"):
        models.get("i-RIM")(TASKS["ct"](), ModelOptions(checkpoint=True))


def test_sizes_double_with_no_stage():
    """The peak of more and more images grows by the same for each."""
    peaks = []
    for batch in (2, 4, 6):
        model, y = build("deblurring", SMALL, torch.float32)
        y = y.repeat(batch // 2, 1, 1, 1)
        model(y).image.sum().backward()
        with LiveBytes() as live:
            model(y).image.sum().backward()
        peaks.append(live.peak)
    steps = [after - before for before, after in pairwise(peaks)]
    assert steps[0] == pytest.approx(steps[1], rel=0.02)
