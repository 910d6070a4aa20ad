"""Classical methods against closed forms, scikit-image, and a general optimiser."""

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle

from bench.accuracy.classical import (
    METHODS,
    RATIO,
    differences,
    differences_adjoint,
    duality_gap,
    gradient_descent,
    total_variation,
)
from bench.config import Classical
from bench.operators.base import LinearOperator
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI


class Dense(LinearOperator):
    """A given matrix, on images of one row by default."""

    def __init__(self, matrix, image_shape=None):
        super().__init__(image_shape or (1, 1, matrix.shape[1]), (matrix.shape[0],), None, matrix.dtype)
        self._constant("matrix", matrix)

    def _apply_forward(self, image):
        return image.flatten(1) @ self.matrix.T

    def _apply_adjoint(self, measurement):
        return (measurement @ self.matrix).view(-1, *self.image_shape)


class Identity(LinearOperator):
    def __init__(self, image_shape):
        super().__init__(image_shape, image_shape, None, torch.float64)

    def _apply_forward(self, image):
        return image.clone()

    _apply_adjoint = _apply_forward


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps_image(height=20, width=16, channels=1):
    image = torch.zeros(1, channels, height, width, dtype=torch.float64)
    image[..., 5:14, 4:11] = 1
    image[..., 8:, 8:] += 0.5
    return image + 0.1 * (random(1, channels, height, width) - 0.5)


def objective(operator, x, y, weight):
    variation = torch.linalg.vector_norm(differences(x), dim=(1, 2)).sum()
    return float((operator(x) - y).square().sum() / 2 + weight * variation)


def test_every_method_that_can_be_configured_is_there():
    assert set(METHODS) == set(get_args(Classical))


@pytest.mark.parametrize("iterations", [1, 2, 7, 100])
def test_gradient_descent_is_its_closed_form(iterations):
    """x_n = sum over singular triplets of (1 - (1 - s^2)^(n + 1)) / s <u, y> v, as x_0 = A^T y."""
    matrix = random(7, 5)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)
    y = random(2, 7, seed=1)
    U, s, Vh = torch.linalg.svd(matrix, full_matrices=False)
    expected = ((1 - (1 - s.square()) ** (iterations + 1)) / s * (y @ U)) @ Vh
    assert torch.allclose(gradient_descent(Dense(matrix), y, iterations)[0].flatten(1), expected, atol=1e-12)


def test_gradient_descent_cannot_add_to_a_zero_filled_reconstruction():
    operator = MRI(image_shape=(2, 16, 16), acceleration=4)
    y = operator(torch.rand(1, 2, 16, 16))
    assert torch.allclose(gradient_descent(operator, y, 5)[0], operator.adjoint(y), atol=1e-6)


def test_differences_and_their_adjoint():
    x, d = random(2, 3, 6, 5), random(2, 2, 3, 6, 5, seed=1)
    assert float((differences(x) * d).sum()) == pytest.approx(float((x * differences_adjoint(d)).sum()), rel=1e-12)
    image = x[0, 0].numpy()
    down, right = differences(x)[0, :, 0].numpy()
    assert np.array_equal(down, np.diff(image, axis=0, append=image[-1:]))
    assert np.array_equal(right, np.diff(image, axis=1, append=image[:, -1:]))


@pytest.mark.parametrize("iterations", [1, 2, 3, 20])
def test_total_variation_is_algorithm_1_of_chambolle_and_pock(iterations):
    """Their algorithm on dense matrices, with both proximal maps by Moreau's identity and theta = 1."""
    height, width, weight, tau, step = 4, 3, 0.05, RATIO / 3, 1 / (3 * RATIO)
    matrix = random(7, height * width)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)
    operator = Dense(matrix, (1, height, width))
    y = random(1, 7, seed=1)
    pixels = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    D = differences(pixels).reshape(height * width, 2 * height * width).T

    x = leading = matrix.T @ y[0]
    p, q = torch.zeros(7, dtype=torch.float64), torch.zeros(len(D), dtype=torch.float64)
    for _ in range(iterations):
        v, w = p + step * matrix @ leading, q + step * D @ leading
        p = v - step * (y[0] + v) / (1 + step)
        length = (w / step).view(2, -1).norm(dim=0)
        shrunk = (w / step).view(2, -1) * torch.where(length > weight / step, 1 - weight / step / length, 0.0)
        q = w - step * shrunk.flatten()
        previous, x = x, x - tau * (matrix.T @ p + D.T @ q)
        leading = x + (x - previous)
    ours, _ = total_variation(operator, y, weight, 0, iterations)
    torch.testing.assert_close(ours.flatten(), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.2])
def test_denoising_is_scikit_images(weight):
    y = steps_image()
    ours = total_variation(Identity((1, 20, 16)), y, weight, 1e-6)[0][0, 0].numpy()
    theirs = denoise_tv_chambolle(y[0, 0].numpy(), weight=weight, eps=1e-12, max_num_iter=5000)
    assert np.abs(ours - theirs).max() < 2e-3
    assert np.abs(ours - y[0, 0].numpy()).max() > 0.05


@pytest.mark.parametrize(
    "operator",
    [
        GaussianBlur(image_shape=(3, 20, 16), kernel_size=5, dtype=torch.float64),
        MRI(image_shape=(2, 20, 16), acceleration=2, dtype=torch.float64),
    ],
    ids=["GaussianBlur", "MRI"],
)
def test_no_general_optimiser_finds_a_smaller_objective(operator):
    """L-BFGS on a smoothed total variation, which lies above the true minimum by little."""
    weight = 0.02
    y = operator(steps_image(channels=operator.image_shape[0]))
    ours, gap = total_variation(operator, y, weight, 1e-4)
    assert float(gap) <= 1e-4
    x = operator.initial_estimate(y).clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def smoothed():
        optimizer.zero_grad()
        length = (differences(x).square().sum(dim=(1, 2)) + 1e-6).sqrt().sum()
        value = (operator(x) - y).square().sum() / 2 + weight * length
        value.backward()
        return value

    optimizer.step(smoothed)
    found, other = objective(operator, ours, y, weight), objective(operator, x.detach(), y, weight)
    assert found <= other * (1 + 1e-6)
    assert found >= other * 0.98
    assert found < 0.9 * objective(operator, operator.initial_estimate(y), y, weight)


def test_the_gap_bounds_how_far_the_objective_is_from_its_minimum():
    """At every stage of the iteration, against a minimum known to 1e-7 from many more."""
    operator, weight = GaussianBlur(image_shape=(1, 12, 10), kernel_size=5, dtype=torch.float64), 0.02
    y = operator(steps_image(12, 10)) + 0.05 * random(1, 1, 12, 10, seed=1)
    best, gap = total_variation(operator, y, weight, 1e-8)
    assert float(gap) <= 1e-8
    least = objective(operator, best, y, weight)
    gaps = []
    for iterations in (50, 200, 800):
        x, gap = total_variation(operator, y, weight, 0, iterations)
        gaps.append(float(gap))
        assert 0 <= (objective(operator, x, y, weight) - least) / objective(operator, x, y, weight) <= gaps[-1] + 1e-8
    assert gaps[0] > gaps[1] > gaps[2]


def test_the_gap_is_its_formula_on_dense_matrices():
    matrix = random(6, 12, seed=3) / 10
    operator, y, weight = Dense(matrix, (1, 4, 3)), random(1, 6, seed=1), 0.3
    x, p, q = random(1, 1, 4, 3, seed=2), random(1, 6, seed=4), 0.1 * random(1, 2, 1, 4, 3, seed=5)
    pixels = torch.eye(12, dtype=torch.float64).view(-1, 1, 4, 3)
    D = differences(pixels).reshape(12, 24).T
    primal = objective(operator, x, y, weight)
    slope = matrix.T @ p[0] + D.T @ q.flatten()
    dual = -y[0] @ p[0] - p[0] @ p[0] / 2 - 2 * x.max() * slope.abs().sum()
    assert float(duality_gap(operator, y, weight, x, p, q)) == pytest.approx(float((primal - dual) / primal), rel=1e-12)


def test_a_method_remembers_its_worst_gap():
    operator = Identity((1, 20, 16))
    method = METHODS["total variation"].at(operator, 0.1)
    method(steps_image()), method(torch.zeros(1, 1, 20, 16, dtype=torch.float64))
    assert 0 < method.worst_gap <= 1e-3
    assert METHODS["initialisation"].at(operator, 0)(steps_image()).shape == (1, 1, 20, 16)


def test_each_measurement_is_reconstructed_with_its_own_mask():
    """A batch of two volumes, each with a mask of its own, against each alone."""
    operator = MRI((2, 16, 16), acceleration=2, masks="volume", dtype=torch.float64)
    images = random(2, 2, 16, 16)
    alone = [operator.drawn(number) for number in (1, 2)]
    assert not torch.equal(alone[0].mask, alone[1].mask)
    measured = [each(image[None]) for each, image in zip(alone, images, strict=True)]
    for method in (
        partial(total_variation, weight=0.01, gap=0.0, iterations=40),
        partial(gradient_descent, iterations=2),
    ):
        both, _ = method(operator, torch.cat(measured))
        each, _ = zip(*(method(one, y) for one, y in zip(alone, measured, strict=True)), strict=True)
        assert (both - torch.cat(each)).abs().max() < 1e-12
