"""Accelerated MRI: a subset of the columns of k-space, single coil."""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from torch import Tensor

from .base import LinearOperator


class MRI(LinearOperator):
    """Masked centred orthonormal Fourier transform over the two spatial axes.

    A x = M F x,   A^T y = F^-1 M y,

    with M the 0/1 mask of the measured k-space columns and F the unitary transform whose origin is the middle
    pixel (N // 2 on each axis) in image and k-space alike. Images and k-space hold real and imaginary part as two
    channels; as a map of real vectors, the adjoint of F is its inverse.

    The centred transform is the plain one between two diagonal phases: on an axis of N pixels, with c = N // 2,

    exp(-2 pi i (k - c) (n - c) / N) = d_k exp(-2 pi i k n / N) d_n,   d_n = exp(2 pi i c (n - c/2) / N).

    Multiplying in place by d (+-1 when 4 divides N) replaces the usual fftshifts, which copy. While it runs, an
    application holds two complex images per sample, the last of which becomes its result; on a GPU cuFFT's plan
    adds a workspace that only cuFFT can tell.

    The mask is fastMRI's: the centre columns always, each other column with the probability that makes
    W / acceleration the expected number of columns. It is one for all images, or each volume has one of its own: then
    the columns of a measurement that are not all zeros are those that were measured.

    Args:
        image_shape: (2, H, W).
        acceleration: how many times fewer columns than W are measured.
        center_fraction: share of the columns that are measured around the centre of k-space; by default
            0.32 / acceleration, fastMRI's 0.08 at 4x and 0.04 at 8x.
        seed: of the mask.
        exact: measure exactly W / acceleration columns, to the nearest, instead of as many as it happens to be.
        masks: one for the whole "suite", or one for each "volume".
        device: of images and k-space.
        dtype: of images and k-space, float32 or float64.

    Raises:
        ValueError: not two channels, a mask that cannot be, or other `masks`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (2, 320, 320),
        acceleration: float = 4.0,
        center_fraction: float | None = None,
        seed: int = 0,
        exact: bool = False,
        masks: str = "suite",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        channels, height, width = image_shape
        if channels != 2:
            raise ValueError(f"MRI got {channels} channels, expected 2: real and imaginary part")
        super().__init__(image_shape, image_shape, device, dtype)
        self.mask: Tensor
        self.phase: Tensor
        if not 1 <= acceleration <= width:
            raise ValueError(
                f"MRI got acceleration {acceleration}, expected at least 1 and at most the {width} columns"
            )
        if center_fraction is None:
            center_fraction = 0.32 / acceleration
        if masks not in MASKS:
            raise ValueError(f"MRI got masks {masks!r}, expected one of {', '.join(MASKS)}")
        phase = _centring_phase(height).unsqueeze(1) * _centring_phase(width)
        self.has_one_mask = masks == "suite"
        self._draw = partial(column_mask, width, acceleration, center_fraction, exact=exact)
        self._seed = seed
        self._constant("mask", self._draw(seed=seed).to(self._like))
        # Real and imaginary part as a last axis: .to(dtype) would drop the imaginary part of a complex buffer.
        self._constant("phase", torch.view_as_real(phase).to(self._like))

    @property
    def acceleration(self) -> float | None:
        """W over the number of measured columns: with a random number of them not quite what was asked for."""
        return self.mask.numel() / float(self.mask.sum())

    def drawn(self, number: int) -> MRI:
        """With a mask of its own, drawn from the seed and `number`, where each volume has one; else itself."""
        return self if self.has_one_mask else self._with_mask(self._draw(seed=(self._seed + number) % 2**63))

    def seen_in(self, measurement: Tensor) -> MRI:
        """With the masks of these measurements, [B, 2, H, W]: the columns that are not all zeros."""
        return self if self.has_one_mask else self._with_mask((measurement != 0).any(dim=(1, 2)).unsqueeze(1))

    def _with_mask(self, mask: Tensor) -> MRI:
        """A copy that shares everything else, its count of calls too; `mask` is [W], or [B, 1, W]."""
        twin = copy.copy(self)
        twin._buffers = self._buffers | {"mask": mask.to(self._like)}
        return twin

    def descent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """A^T (y - A x), with the mask of each measurement: [B, 2, H, W]."""
        return super(MRI, self.seen_in(measurement)).descent(image, measurement)

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """x_0 = A^T y, with the mask of each measurement: [B, 2, H, W]."""
        return self.seen_in(measurement).adjoint(measurement)

    def where_measured(self, noise: Tensor) -> Tensor:
        """Noise [..., H, W] in the measured columns alone."""
        return noise * self.mask

    def _apply_forward(self, image: Tensor) -> Tensor:
        phase = torch.view_as_complex(self.phase)
        spectrum = torch.fft.fft2(_to_complex(image).mul_(phase), norm="ortho")
        return _to_channels(spectrum.mul_(phase).mul_(self.mask))

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        phase = torch.view_as_complex(self.phase)
        image = torch.fft.ifft2(_to_complex(measurement).mul_(self.mask).div_(phase), norm="ortho")
        return _to_channels(image.div_(phase))


MASKS = ("suite", "volume")


def column_mask(width: int, acceleration: float, center_fraction: float, seed: int, exact: bool = False) -> Tensor:
    """The random mask of fastMRI, [W]: True where a k-space column is measured.

    Args:
        width: W.
        acceleration: W over the expected number of columns.
        center_fraction: share of the columns measured around column W // 2.
        seed: of the other columns.
        exact: take as many of the other columns as are missing, each set of them equally likely.

    Raises:
        ValueError: the centre alone is more than W / acceleration columns, or the acceleration is below 1.
    """
    centre = round(width * center_fraction)
    if not 0 <= centre <= width / acceleration:
        raise ValueError(
            f"MRI got center_fraction {center_fraction}, which is {centre} columns, "
            f"expected at least 0 and at most {width} / {acceleration}"
        )
    start = (width - centre + 1) // 2
    generator = torch.Generator().manual_seed(seed)
    if exact:
        mask = torch.zeros(width, dtype=torch.bool)
        mask[start : start + centre] = True
        others = (~mask).nonzero().flatten()
        missing = max(round(width / acceleration) - centre, 0)
        mask[others[torch.randperm(len(others), generator=generator)[:missing]]] = True
        return mask
    probability = (width / acceleration - centre) / max(width - centre, 1)
    mask = torch.rand(width, generator=generator, dtype=torch.float64) < probability
    mask[start : start + centre] = True
    return mask


def _centring_phase(size: int) -> Tensor:
    """d_n, n = 0 .. N-1, that moves the origin of a discrete Fourier transform to N // 2: [N], complex."""
    centre = size // 2
    angle = 2 * math.pi * centre / size * (torch.arange(size, dtype=torch.float64) - centre / 2)
    return torch.polar(torch.ones_like(angle), angle)


def _to_complex(channels: Tensor) -> Tensor:
    """[B, 2, H, W] -> [B, H, W] complex, a copy."""
    return torch.complex(channels[:, 0], channels[:, 1])


def _to_channels(image: Tensor) -> Tensor:
    """[B, H, W] complex -> [B, 2, H, W], a copy."""
    return torch.view_as_real(image).movedim(-1, 1).contiguous()
