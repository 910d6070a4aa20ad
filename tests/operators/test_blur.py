"""GaussianBlur against a dense matrix from scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from bench.operators.blur import GaussianBlur


def dense_convolution(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Column i is the i-th unit image, convolved with zeros outside."""
    units = np.eye(math.prod(shape)).reshape(-1, *shape)
    return np.stack([ndimage.convolve(unit, kernel, mode="constant").ravel() for unit in units], axis=1)


def gaussian(size: int, variance: float) -> np.ndarray:
    """A unit impulse through scipy's own Gaussian filter, cut at the same radius."""
    impulse = np.zeros((size, size))
    impulse[size // 2, size // 2] = 1
    return ndimage.gaussian_filter(impulse, math.sqrt(variance), radius=size // 2, mode="constant")


def test_equals_the_dense_matrix():
    blur = GaussianBlur((2, 12, 10), dtype=torch.float64)
    A = dense_convolution(gaussian(9, 5.0), (12, 10))
    x = torch.randn(3, 2, 12, 10, dtype=torch.float64)
    np.testing.assert_allclose(blur(x).reshape(6, -1), x.reshape(6, -1).numpy() @ A.T, atol=1e-13)
    np.testing.assert_allclose(blur.adjoint(x).reshape(6, -1), x.reshape(6, -1).numpy() @ A, atol=1e-13)


def test_convolves_and_correlates_whatever_the_kernel():
    blur = GaussianBlur((1, 7, 8), kernel_size=3, dtype=torch.float64)
    blur.kernel.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    A = dense_convolution(blur.kernel[0, 0].numpy(), (7, 8))
    x = torch.randn(2, 1, 7, 8, dtype=torch.float64)
    np.testing.assert_allclose(blur(x).reshape(2, -1), x.reshape(2, -1).numpy() @ A.T, atol=1e-12)
    np.testing.assert_allclose(blur.adjoint(x).reshape(2, -1), x.reshape(2, -1).numpy() @ A, atol=1e-12)


def test_variance_is_not_the_standard_deviation():
    kernel = GaussianBlur(dtype=torch.float64).kernel[0, 0]
    assert kernel.sum().item() == pytest.approx(1)
    assert (kernel[4, 5] / kernel[4, 4]).item() == pytest.approx(math.exp(-1 / (2 * 5.0)))


def test_defaults_are_the_papers():
    blur = GaussianBlur(device="meta")
    assert blur.image_shape == blur.measurement_shape == (3, 128, 128)
    assert blur.kernel.shape == (3, 1, 9, 9)


def test_kernels_at_the_limits_are_made():
    x = torch.randn(1, 1, 3, 4)
    assert torch.equal(GaussianBlur((1, 3, 4), kernel_size=1)(x), x)
    assert GaussianBlur((1, 1, 1), kernel_size=999, device="meta").kernel.shape == (1, 1, 999, 999)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 4}, {"kernel_size": -1}, {"kernel_size": 1001}, {"variance": 0.0}, {"variance": math.inf}],
)
def test_impossible_kernels_are_refused(options):
    with pytest.raises(ValueError, match=r"GaussianBlur got .*, expected"):
        GaussianBlur(**options)
