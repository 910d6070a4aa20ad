"""What must hold for every operator that is not linear: derivatives by cases, against differences and each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench import operators
from bench.operators.base import LinearOperator
from bench.operators.nonlinear import NonlinearOperator

# At least one small case per registered operator that is not linear.
CASES = {
    "Lorenz96": {"variables": 7, "windows": 2, "steps": 5},
    "Lorenz96, every third variable, checkpoints": {
        "variables": 8,
        "windows": 2,
        "steps": 5,
        "observe_every": 3,
        "stored_every": 2,
    },
    "Seismic": {"image_size": (6, 7), "steps": 60, "shots": 2, "border": 2, "frequency": 30.0},
    "Seismic, no border, checkpoints": {
        "image_size": (5, 6),
        "steps": 50,
        "shots": 1,
        "border": 0,
        "receiver_row": -1,
        "frequency": 30.0,
        "stored_every": 7,
    },
}
NONLINEAR = [name for name in operators.names() if issubclass(operators.get(name), NonlinearOperator)]
ONCE = {name.split(",")[0]: CASES[name] for name in reversed(CASES)}


def build(case: str, dtype: torch.dtype = torch.float64, device: str = "cpu", **more) -> NonlinearOperator:
    return operators.get(case.split(",")[0])(**CASES[case] | more, dtype=dtype, device=device)


@pytest.fixture(params=CASES)
def operator(request: pytest.FixtureRequest) -> NonlinearOperator:
    return build(request.param)


def image_of(operator, batch: int = 2, seed: int = 0) -> Tensor:
    """Values inside (0.2, 0.8), so that none is cut off nearby."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 0.6 * torch.rand(batch, *operator.image_shape, generator=generator, dtype=torch.float64)


def random(shape, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_operator_that_is_not_linear_is_in_the_matrix():
    assert {case.split(",")[0] for case in CASES} == set(NONLINEAR)
    assert all(issubclass(operators.get(name), (LinearOperator, NonlinearOperator)) for name in operators.names())


def jacobian(operator, x: Tensor) -> Tensor:
    """Of one image, by forward differences of nothing: PyTorch's forward mode, which takes no backward pass."""
    columns = torch.eye(x.numel(), dtype=torch.float64).view(-1, *x.shape)
    pushed = torch.func.vmap(lambda column: torch.func.jvp(operator._apply_forward, (x,), (column,))[1])(columns)
    return pushed.flatten(1).t()


@pytest.mark.parametrize("name", ONCE)
def test_vjp_is_the_transposed_jacobian_of_forward_mode(name):
    operator = operators.get(name)(**ONCE[name] | {"stored_every": 1}, dtype=torch.float64)
    x, v = image_of(operator, 1), random(operator.measurement_shape, 1)
    J = jacobian(operator, x)
    torch.testing.assert_close(operator.vjp(x, v).flatten(), J.t() @ v.flatten(), rtol=1e-11, atol=1e-12)
    assert operator.norm_at(x, 60) == pytest.approx(torch.linalg.svdvals(J)[0].item(), rel=1e-6)


def test_dot_products_agree(operator):
    """<J w, v> = <w, J^T v>, where J w is the derivative of J^T v in v."""
    x, w, v = image_of(operator), random(operator.image_shape, seed=2), random(operator.measurement_shape)
    v.requires_grad_()
    pulled = operator.vjp(x, v)
    (pushed,) = torch.autograd.grad((pulled * w).sum(), v)
    step = 1e-6
    differences = (operator(x + step * w) - operator(x - step * w)) / (2 * step)
    torch.testing.assert_close(pushed, differences, rtol=1e-6, atol=1e-7)
    assert abs((pushed * v).sum() - (w * pulled).sum()) / (pushed.norm() * v.norm()) < 1e-12


def test_taylor_remainders_are_of_second_order(operator):
    """|A(x + h w) - A(x) - h J w| falls fourfold as h is halved."""
    x, w = image_of(operator, 1), random(operator.image_shape, 1)
    v = torch.zeros(1, *operator.measurement_shape, dtype=torch.float64, requires_grad=True)
    (pushed,) = torch.autograd.grad(operator.vjp(x, v), v, w)
    remainders = [(operator(x + h * w) - operator(x) - h * pushed).norm() for h in (4e-4, 2e-4, 1e-4)]
    assert remainders[0] / remainders[1] == pytest.approx(4, rel=0.01)
    assert remainders[1] / remainders[2] == pytest.approx(4, rel=0.01)


def test_descent_is_the_negative_gradient_of_the_squared_residual_and_applies_a_once(operator):
    x, y = image_of(operator).requires_grad_(), random(operator.measurement_shape)
    (gradient,) = torch.autograd.grad((y - operator(x)).square().sum() / 2, x)
    operator.calls.reset()
    with torch.no_grad():
        descent = operator.descent(x, y)
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)
    assert not descent.requires_grad
    torch.testing.assert_close(descent, -gradient, rtol=1e-12, atol=1e-13)


def test_descent_can_be_differentiated_as_networks_need(operator):
    x = image_of(operator, 1).requires_grad_()
    y = random(operator.measurement_shape, 1).requires_grad_()
    assert torch.autograd.gradcheck(operator, x, fast_mode=True)
    assert torch.autograd.gradcheck(operator.descent, (x, y), fast_mode=True, atol=1e-4)
    assert torch.autograd.gradcheck(operator.vjp, (x, y), fast_mode=True, atol=1e-4)


def test_calls_count_a_and_its_transposed_in_every_pass(operator):
    x, y = image_of(operator).requires_grad_(), random(operator.measurement_shape)
    descent = operator.descent(x, y)
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)
    descent.sum().backward()  # J, and J^T on from the residual
    assert (operator.calls.forward, operator.calls.adjoint) == (2, 2)
    operator.calls.reset()
    predicted = operator(x)
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 0)
    predicted.sum().backward()
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)
    operator.norm_at(x[:1], 2)
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)


def test_samples_do_not_mix_and_float32_agrees(operator):
    x, y = image_of(operator, 3), random(operator.measurement_shape, 3)
    together = operator.descent(x, y)
    for i in range(3):
        alone = operator.descent(x[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_with_float64(case):
    single, double = build(case, torch.float32), build(case)
    x, y = image_of(double), random(double.measurement_shape)
    for name in ("forward", "descent"):
        arguments = (x, y) if name == "descent" else (x,)
        expected = getattr(double, name)(*arguments)
        got = getattr(single, name)(*(each.float() for each in arguments))
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("every", [2, 3, 5, "all"])
@pytest.mark.parametrize("name", ONCE)
def test_checkpoints_in_time_change_no_gradient(name, every):
    """Gradients through a gradient step, in x, y and the step's size, compared in float64."""
    options = ONCE[name]
    every = options["steps"] if every == "all" else every
    found = []
    for stored_every in (1, every):
        operator = operators.get(name)(**options | {"stored_every": stored_every}, dtype=torch.float64)
        x, y = image_of(operator).requires_grad_(), random(operator.measurement_shape).requires_grad_()
        step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        loss = (x + step * operator.descent(x, y)).sin().sum()
        found.append((loss, *torch.autograd.grad(loss, (x, y, step))))
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ONCE)
def test_checkpoints_in_time_keep_less(name):
    kept = []
    for every in (1, 5):
        operator = operators.get(name)(**ONCE[name] | {"stored_every": every}, dtype=torch.float64)
        x = image_of(operator).requires_grad_()
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, storages=storages: storages.setdefault(t.untyped_storage().data_ptr(), t) is None or t,
            lambda t: t,
        ):
            operator(x)
        own = {buffer.untyped_storage().data_ptr() for buffer in operator.buffers()}
        kept.append(sum(t.untyped_storage().nbytes() for place, t in storages.items() if place not in own))
    assert kept[1] < kept[0] / 2


def test_no_graph_is_left_where_no_gradient_is_asked_for(operator):
    x, y = image_of(operator), random(operator.measurement_shape)
    assert not operator.descent(x, y).requires_grad  # in grad mode, of tensors without gradients
    with torch.no_grad():
        assert not operator(x.requires_grad_()).requires_grad


def test_sizes_and_constants(operator):
    x = image_of(operator)
    y = operator(x)
    assert y.shape == (2, *operator.measurement_shape)
    start = operator.initial_estimate(y)
    assert start.shape == x.shape and start.is_contiguous()
    assert not operator.state_dict() and not list(operator.parameters())


@pytest.mark.parametrize("case", CASES)
def test_meta_has_the_shapes(case):
    real, meta = build(case), build(case, device="meta")
    assert meta.constant_bytes == real.constant_bytes
    y = torch.empty(2, *meta.measurement_shape, device="meta", dtype=torch.float64)
    x = meta.initial_estimate(y).requires_grad_()
    meta.descent(x, y).sum().backward()
    assert x.grad.shape == (2, *real.image_shape)


def test_wrong_input_is_refused_in_one_sentence(operator):
    name = type(operator).__name__
    x, y = image_of(operator), random(operator.measurement_shape)
    for call in (lambda x: operator(x), lambda x: operator.vjp(x, y), lambda x: operator.descent(x, y)):
        with pytest.raises(ValueError, match=rf"{name} got image of shape .*, expected \[B, "):
            call(x[..., :-1])
        with pytest.raises(ValueError, match=f"{name} got image of dtype torch.float32, expected torch.float64"):
            call(x.float())
    for call in (operator.vjp, operator.descent):
        with pytest.raises(ValueError, match=rf"{name} got measurement of shape .*, expected \[B, "):
            call(x, y[..., :-1])
