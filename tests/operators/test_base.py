"""What operators inherit: sizes, threads, and the norm of a map whose singular values are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.operators.base import LinearOperator
from bench.operators.blur import GaussianBlur


class Diagonal(LinearOperator):
    """x -> d x, pixel by pixel: the singular values are |d|."""

    def __init__(self, d: list[float]) -> None:
        super().__init__((1, 1, len(d)), (1, 1, len(d)), None, torch.float64)
        self.d = torch.tensor(d, dtype=torch.float64)
        self.steps = 0

    def _apply_forward(self, image: Tensor) -> Tensor:
        self.steps += 1
        return self.d * image

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        return self.d * measurement


def plain(image_shape, measurement_shape=(1,)):
    return LinearOperator(image_shape, measurement_shape, "meta", torch.float32)


def test_sizes_have_limits():
    assert plain((1, 2**5, 2**20), (2**25,)).image_shape == (1, 32, 2**20)
    with pytest.raises(ValueError, match=r"got image_shape \[1, 1, 33554433\], expected .* at most 33,554,432 numbers"):
        plain((1, 1, 2**25 + 1))
    with pytest.raises(ValueError, match=r"got measurements of shape \[33554433\], expected sizes of at least 1"):
        plain((1, 1, 1), (2**25 + 1,))
    with pytest.raises(ValueError, match=r"got image_shape \[3, 0, 5\], expected sizes of at least 1"):
        plain((3, 0, 5))


def test_what_an_operator_without_constants_is():
    operator = plain((1, 2, 3))
    noise = torch.ones(2, 1)
    assert operator.constant_bytes == 0
    assert operator.attenuation_scale is None
    assert operator.where_measured(noise) is noise
    with pytest.raises(NotImplementedError):
        operator(torch.zeros(1, 1, 2, 3, device="meta"))
    with pytest.raises(NotImplementedError):
        operator.adjoint(torch.zeros(1, 1, device="meta"))


@pytest.mark.parametrize("kernel_size", [3, 4])
def test_the_shape_is_found_with_one_thread_and_theirs_are_put_back(monkeypatch, kernel_size):
    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    if kernel_size == 3:
        assert GaussianBlur.image_shape_of(image_shape=(2, 5, 6), kernel_size=3) == (2, 5, 6)
    else:
        with pytest.raises(ValueError, match="kernel_size 4"):
            GaussianBlur.image_shape_of(kernel_size=4)
    assert threads == [1, 7]


def estimates(d: list[float], seed: int, count: int) -> list[float]:
    """|d^2k v| over |d^2(k-1) v|, and its root: what k steps of power iteration on A^T A give from v."""
    v = torch.rand(1, 1, len(d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    squares = torch.tensor(d, dtype=torch.float64) ** 2
    norms = [(squares**k * v).norm() for k in range(count + 1)]
    return [(norms[k + 1] / norms[k]).sqrt().item() for k in range(count)]


D = [2.0, 1.99, 1.98, 0.5]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_norm_after_as_many_steps_as_allowed(seed):
    expected = estimates(D, seed, 101)
    assert expected[100] - expected[99] > 1e-6
    assert Diagonal(D).norm(tolerance=0, seed=seed) == pytest.approx(expected[99], rel=1e-12)
    assert Diagonal(D).norm(iterations=7, tolerance=0, seed=seed) == pytest.approx(expected[6], rel=1e-12)


@pytest.mark.parametrize(("tolerance", "options"), [(1e-3, {"tolerance": 1e-3}), (1e-6, {})])
def test_the_norm_is_taken_once_it_grows_by_less_than_the_tolerance(tolerance, options):
    d = [2.0, 1.7, 1.6, 0.5]
    expected = estimates(d, 0, 100)
    steps = 1 + next(k for k in range(1, 100) if expected[k] - expected[k - 1] <= tolerance * expected[k])
    operator = Diagonal(d)
    assert operator.norm(**options) == pytest.approx(expected[steps - 1], rel=1e-12)
    assert operator.steps == steps < 100


def test_a_norm_that_does_not_grow_ends_the_search_whatever_the_tolerance():
    operator = Diagonal([1.0])
    assert operator.norm(tolerance=0) == 1.0
    assert operator.steps == 2


def test_the_noise_of_the_norm_is_the_first_seeds_by_default():
    assert Diagonal(D).norm(iterations=2) == pytest.approx(estimates(D, 0, 2)[1], rel=1e-12)
