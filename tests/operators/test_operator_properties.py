"""What must hold for every linear operator: one matrix, properties by cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench import operators
from bench.operators.base import LinearOperator

LINEAR = [name for name in operators.names() if issubclass(operators.get(name), LinearOperator)]

# At least one small case per registered operator that is linear; test_nonlinear.py has the others.
CASES = {
    "GaussianBlur": {"image_shape": (3, 6, 5), "kernel_size": 5},
    "GaussianBlur, one channel": {"image_shape": (1, 6, 7), "kernel_size": 3, "variance": 0.5},
    "MRI": {"image_shape": (2, 4, 8)},
    "MRI, odd sides": {"image_shape": (2, 5, 7), "acceleration": 2, "center_fraction": 0.1},
    "Radon": {"image_size": 6, "detectors": 11, "angles": 8},
    "Radon, two channels": {"image_size": 5, "detectors": 8, "angles": 6, "channels": 2},
    "Radon, odd number of angles": {"image_size": 6, "detectors": 9, "angles": 7, "normalize": False},
}
CASES |= {name: {} for name in LINEAR if name not in {case.split(",")[0] for case in CASES}}


def build(case: str, dtype: torch.dtype = torch.float64, device: str = "cpu") -> LinearOperator:
    return operators.get(case.split(",")[0])(**CASES[case], dtype=dtype, device=device)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def operator(case: str) -> LinearOperator:
    return build(case)


def random(shape: tuple[int, ...], batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(operator: LinearOperator) -> Tensor:
    """A as a matrix, column by column."""
    size = operator.image_shape[0] * operator.image_shape[1] * operator.image_shape[2]
    return operator(torch.eye(size, dtype=torch.float64).view(size, *operator.image_shape)).flatten(1).t()


def directions(operator: LinearOperator) -> list[tuple]:
    return [(operator, operator.image_shape), (operator.adjoint, operator.measurement_shape)]


def test_every_registered_operator_is_in_the_matrix():
    assert {case.split(",")[0] for case in CASES} == set(LINEAR)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_adjoint_matches_forward(operator, batch):
    x, y = random(operator.image_shape, batch), random(operator.measurement_shape, batch, seed=1)
    Ax, Aty = operator(x), operator.adjoint(y)
    assert Ax.shape == y.shape and Aty.shape == x.shape
    assert abs((Ax * y).sum() - (x * Aty).sum()) / (Ax.norm() * y.norm()) < 1e-10


def test_adjoint_is_the_transposed_matrix(operator):
    A = dense(operator)
    y = random(operator.measurement_shape)
    torch.testing.assert_close(operator.adjoint(y).flatten(1), y.flatten(1) @ A, rtol=1e-11, atol=1e-12)


def test_vjp_and_descent_are_made_of_the_adjoint(operator):
    x, y = random(operator.image_shape), random(operator.measurement_shape, seed=1)
    assert torch.equal(operator.vjp(x, y), operator.adjoint(y))
    assert torch.equal(operator.descent(x, y), operator.adjoint(y - operator(x)))


def test_linear(operator):
    for apply, shape in directions(operator):
        a, b = random(shape, seed=2), random(shape, seed=3)
        torch.testing.assert_close(apply(2 * a - 3 * b), 2 * apply(a) - 3 * apply(b), rtol=1e-11, atol=1e-12)


def test_samples_do_not_mix(operator):
    for apply, shape in directions(operator):
        batch = random(shape, 3)
        together = apply(batch)
        for i in range(3):
            torch.testing.assert_close(together[i : i + 1], apply(batch[i : i + 1]), rtol=1e-13, atol=1e-14)
        lonely = torch.zeros_like(batch)
        lonely[1] = batch[1]
        assert not apply(lonely)[[0, 2]].any()


def test_float32_agrees_with_float64(case):
    single, double = build(case, torch.float32), build(case)
    pairs = zip(directions(single), directions(double), strict=True)
    for (apply_single, shape), (apply_double, _) in pairs:
        argument = random(shape)
        expected = apply_double(argument).float()
        torch.testing.assert_close(apply_single(argument.float()), expected, rtol=1e-5, atol=1e-5)


def test_any_memory_layout(operator):
    for apply, shape in directions(operator):
        argument = random(shape)
        reversed_layout = argument.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        result = apply(reversed_layout)
        torch.testing.assert_close(result, apply(argument), rtol=1e-13, atol=1e-14)
        assert result.is_contiguous()
        once = random(shape, 1)
        torch.testing.assert_close(apply(once.expand(3, *shape)), apply(once.repeat(3, 1, 1, 1)))


def test_gradients_of_every_order(operator):
    for apply, shape in directions(operator):
        argument = random(shape).requires_grad_()
        assert torch.autograd.gradcheck(apply, argument, check_forward_ad=True, fast_mode=True)
        # Linear maps have no curvature: a nonlinear function of the result tests the double backward.
        assert torch.autograd.gradgradcheck(lambda v, apply=apply: apply(v).sin(), argument, fast_mode=True)


def test_backward_keeps_no_tensor(operator):
    for apply, shape in directions(operator):
        kept = []
        argument = random(shape).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda x: x):
            result = apply(argument)
        assert not kept
        assert not [value for value in vars(result.grad_fn).values() if isinstance(value, Tensor)]


def test_norm_is_the_largest_singular_value(operator):
    largest = torch.linalg.svdvals(dense(operator))[0].item()
    assert operator.norm(iterations=2000, tolerance=1e-13) == pytest.approx(largest, rel=1e-6)


def test_calls_count_batched_applications_and_backward_passes(operator):
    x = random(operator.image_shape, 3).requires_grad_()
    operator(operator.adjoint(operator(x)))
    assert (operator.calls.forward, operator.calls.adjoint) == (2, 1)
    operator.calls.reset()
    operator(x).sum().backward()
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)
    operator.norm(iterations=3)
    assert (operator.calls.forward, operator.calls.adjoint) == (1, 1)


def test_initial_estimate_is_an_image(operator):
    y = random(operator.measurement_shape)
    expected = y if type(operator).__name__ == "GaussianBlur" else operator.adjoint(y)
    assert torch.equal(operator.initial_estimate(y), expected)


def test_constants_are_counted_and_stay_out_of_checkpoints(operator):
    assert operator.constant_bytes == sum(buffer.untyped_storage().nbytes() for buffer in operator.buffers())
    assert not operator.state_dict()
    assert not list(operator.parameters())


def test_frozen_parameters_are_those_the_paper_counts():
    frozen = {name: operators.get(name)(device="meta").frozen_parameters for name in LINEAR}
    assert frozen.items() >= {"GaussianBlur": 243, "MRI": 0, "Radon": 0}.items()


class Recorder(TorchDispatchMode):
    """Every operation with the bytes of its first result's storage.

    The first only: embedding_bag's other results are what its backward pass would need, whose sizes are those of a
    GPU on the meta device and smaller on a CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) else result
        self.events.append((str(function), first.untyped_storage().nbytes()))
        return result


@pytest.mark.parametrize("batch", [1, 3])
def test_meta_runs_the_same_operations(case, batch):
    real, meta = build(case, torch.float32), build(case, torch.float32, "meta")
    assert meta.constant_bytes == real.constant_bytes
    sizes = [{name: b.nbytes for name, b in operator.named_buffers()} for operator in (real, meta)]
    assert sizes[0] == sizes[1]
    for (apply_real, shape), (apply_meta, _) in zip(directions(real), directions(meta), strict=True):
        argument = random(shape, batch, dtype=torch.float32)
        with Recorder() as on_cpu:
            expected = apply_real(argument.clone().requires_grad_())
            expected.backward(torch.ones_like(expected))
        with Recorder() as on_meta:
            result = apply_meta(argument.to("meta").clone().requires_grad_())
            result.backward(torch.ones_like(result))
        # The copy to the meta device is the recording's own first event.
        assert on_meta.events[1:] == on_cpu.events
        assert result.shape == expected.shape


def test_meta_has_no_norm(case):
    with pytest.raises(ValueError, match="no values, so no norm"):
        build(case, device="meta").norm()


def test_wrong_input_is_refused_in_one_sentence(operator):
    name = type(operator).__name__
    for apply, what, shape in (
        (operator, "image", operator.image_shape),
        (operator.adjoint, "measurement", operator.measurement_shape),
    ):
        right = random(shape)
        for wrong in (right[0], right[:0], right[..., :-1], torch.tensor(1.0, dtype=torch.float64)):
            with pytest.raises(ValueError, match=rf"{name} got {what} of shape .*, expected \[B, "):
                apply(wrong)
        with pytest.raises(ValueError, match=f"{name} got {what} of dtype torch.float32, expected torch.float64"):
            apply(right.float())
        with pytest.raises(ValueError, match=f"{name} got {what} on meta, expected cpu"):
            apply(right.to("meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu(case):
    cpu, cuda = build(case), build(case, device="cuda")
    for (apply_cpu, shape), (apply_cuda, _) in zip(directions(cpu), directions(cuda), strict=True):
        argument = random(shape)
        torch.testing.assert_close(apply_cuda(argument.cuda()).cpu(), apply_cpu(argument), rtol=1e-11, atol=1e-12)
