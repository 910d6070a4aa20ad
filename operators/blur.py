"""Deblurring: convolution with a Gaussian kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import LinearOperator

LARGEST_KERNEL = 999
"""Pixels of a side."""


class GaussianBlur(LinearOperator):
    """Every channel convolved with the same k x k Gaussian, zeros outside the image.

    (A x)(p) = sum_q h(q) x(p - q),   h(q) ~ exp(-|q|^2 / (2 v)),   sum_q h(q) = 1,

    with pixels p, q and q in [-(k-1)/2, (k-1)/2]^2. The adjoint correlates instead of convolving, that is, it
    convolves with the flipped kernel h(-q). Both run as one depthwise convolution, for which PyTorch has its own GPU
    kernel without workspace; cuDNN, which may take one, computes a single channel or a channels-last image.

    Args:
        image_shape: (C, H, W).
        kernel_size: k in pixels, odd.
        variance: v in pixels^2. The paper's text says "variance of 5", hence a standard deviation of sqrt(5); code
            of this kind often passes 5 as the standard deviation, which is ``variance=25`` here.
        device: of the kernel.
        dtype: of the kernel.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 128, 128),
        kernel_size: int = 9,
        variance: float = 5.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 1 <= kernel_size <= LARGEST_KERNEL or kernel_size % 2 == 0:
            raise ValueError(
                f"GaussianBlur got kernel_size {kernel_size}, expected an odd number of pixels, "
                f"at most {LARGEST_KERNEL}"
            )
        if not 0 < variance < math.inf:
            raise ValueError(f"GaussianBlur got variance {variance}, expected a positive number of pixels^2")
        super().__init__(image_shape, image_shape, device, dtype)
        self.kernel: Tensor
        offsets = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
        profile = torch.exp(-(offsets**2) / (2 * variance))
        profile /= profile.sum()
        kernel = torch.outer(profile, profile).repeat(image_shape[0], 1, 1, 1)
        self._constant("kernel", kernel.to(self._like))

    @property
    def frozen_parameters(self) -> int:
        """The kernel's entries: the authors store it as a convolution's weight, once per channel."""
        return self.kernel.numel()

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """x_0 = y: the blurred image itself, [B, C, H, W]."""
        return measurement

    def _apply_forward(self, image: Tensor) -> Tensor:
        # conv2d correlates, so the convolution is the one with the flipped kernel.
        return self._correlate(image, self.kernel.flip(-2, -1))

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        return self._correlate(measurement, self.kernel)

    def _correlate(self, image: Tensor, kernel: Tensor) -> Tensor:
        channels = self.image_shape[0]
        return F.conv2d(image, kernel, padding=kernel.shape[-1] // 2, groups=channels)
