"""Computed tomography: the parallel-beam Radon transform."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from .base import LinearOperator, skips_values
from .equivariant import EquivariantMatrix
from .parallel_beam import ParallelBeam, entries, hat_rows, orbits, unfilled_rows

LARGEST_SIZE = 4096
"""Pixels of a side, cells of the detector, angles or channels."""


class Radon(LinearOperator):
    """Line integrals along parallel rays, at angles equally spaced over [0, pi).

    The ray (theta, s) is the line <p, n> = s with n = (cos theta, sin theta), x to the right and y upwards, the
    origin in the middle of the image. Joseph's method steps along the image axis that is closer to the ray and
    interpolates linearly across it, which is the same as

    (A f)(theta, s) = (h / c) sum_p f(p) L((<p, n> - s) / c),   c = max(|cos theta|, |sin theta|),

    with the hat L(t) = max(0, 1 - |t|), pixel centres p and s in units of the pixel's side, and h that side in
    metres. The detector spans the image's diagonal; the defaults are LoDoPaB-CT's geometry with every 5th angle.

    The square's symmetries map this set of rays onto itself: turning the image by 90 degrees adds pi/2 to theta,
    mirroring it negates theta, and (theta + pi, s) is the ray (theta, -s). So A is stored for the angles of
    [0, pi/4] and half of the detector only, and A^T for an eighth of the image (``operators.equivariant``). An odd
    number of angles misses theta + pi/2; then the group is that of the rectangle, of order 4 instead of 8.

    Args:
        image_size: N, the image is N x N pixels.
        detectors: D, cells of the detector.
        angles: number of angles, theta_j = j pi / angles.
        half_angles: theta_j = (j + 1/2) pi / angles, which is how LoDoPaB-CT was measured: its 1000 angles are
            (j + 1/2) pi / 1000, of which every fifth from the third on are these 200.
        channels: C; each channel has its own sinogram.
        extent: side of the image in metres.
        normalize: divide by the operator norm, so that ||A|| = 1.
        device: of images and sinograms.
        dtype: of images and sinograms, float32 or float64.

    Attributes:
        scale: measurement over line integral in metres: 1, or 1 / norm if normalised (1 where there are no values).

    Raises:
        ValueError: a size below 1 or above `LARGEST_SIZE`.
    """

    def __init__(
        self,
        image_size: int = 362,
        detectors: int = 513,
        angles: int = 200,
        channels: int = 1,
        extent: float = 0.26,
        normalize: bool = True,
        half_angles: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        image_shape, measurement_shape = self._shapes(image_size, detectors, angles, channels, extent)
        # Built on the CPU and then moved, so that every device gets the same constants.
        super().__init__(image_shape, measurement_shape, "cpu", dtype)
        self.geometry = geometry = ParallelBeam(image_size, detectors, angles, extent, half_angles)
        on_meta = device is not None and torch.device(device).type == "meta"
        has_values = not on_meta and not skips_values()
        pixels, rays = orbits(geometry)
        if has_values:
            forward = hat_rows(geometry.rays, rays.representatives, dtype)
            adjoint = hat_rows(geometry.pixels, pixels.representatives, dtype)
        else:
            of_rays, of_pixels = entries(geometry)
            where = "meta" if on_meta else "cpu"
            forward = unfilled_rows(of_rays, len(rays.representatives), dtype, where)
            adjoint = unfilled_rows(of_pixels, len(pixels.representatives), dtype, where)
        self.projection = EquivariantMatrix(forward, pixels, rays)
        self.backprojection = EquivariantMatrix(adjoint, rays, pixels)
        self.scale = 1.0
        if normalize and has_values:
            self.scale = 1 / self.norm(tolerance=1e-5)
            self.projection.weights *= self.scale
            self.backprojection.weights *= self.scale
        self.to(device)

    @property
    def attenuation_scale(self) -> float:
        """Measurement over line integral in metres."""
        return self.scale

    @classmethod
    def image_shape_of(cls, **options: Any) -> tuple[int, ...]:
        """As for every operator, without the orbits, which take longer than all other checks together.

        Raises:
            ValueError: the constructor refuses the options.
        """
        given = inspect.signature(cls).bind(**options)
        given.apply_defaults()
        names = ("image_size", "detectors", "angles", "channels", "extent")
        image_shape, _ = cls._shapes(*(given.arguments[name] for name in names))
        return image_shape

    @classmethod
    def _shapes(
        cls, image_size: int, detectors: int, angles: int, channels: int, extent: float
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of images and sinograms, if there can be such."""
        sizes = {"image_size": image_size, "detectors": detectors, "angles": angles, "channels": channels}
        for name, size in sizes.items():
            if not 1 <= size <= LARGEST_SIZE:
                raise ValueError(f"Radon got {name} {size}, expected at least 1 and at most {LARGEST_SIZE:,}")
        if not 0 < extent < math.inf:
            raise ValueError(f"Radon got extent {extent}, expected a positive number of metres")
        shapes = (channels, image_size, image_size), (channels, angles, detectors)
        cls._check_sizes(*shapes)
        return shapes

    def filtered_backprojection(self, sinogram: Tensor, cutoff: float = math.inf) -> Tensor:
        """The classical reconstruction, [B, C, angles, D] -> [B, C, N, N]: ramp filter, then backprojection.

        f = pi / (angles h^2 scale^2) A^T (r * y),   r(0) = 1/4,  r(n) = -1 / (pi n)^2 for odd n,  0 for even n,

        with Ram and Lak's filter r along the detector, in its cells, zero-padded; under a Hann window that ends at
        `cutoff` times the highest frequency, if that is finite.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("sinogram", sinogram, self.measurement_shape)
        detectors = self.geometry.detectors
        n = torch.arange(2 * detectors, dtype=torch.float64)
        n = torch.minimum(n, 2 * detectors - n)  # |n|, the filter being even and periodic
        ramp = torch.where(n % 2 == 1, -1 / (math.pi * n) ** 2, torch.where(n == 0, 0.25, 0.0))
        spectrum = torch.fft.rfft(sinogram, 2 * detectors) * torch.fft.rfft(ramp.to(sinogram))
        if cutoff < math.inf:
            frequency = torch.linspace(0, 1 / cutoff, detectors + 1, dtype=torch.float64).clamp(max=1)
            spectrum = spectrum * torch.cos(math.pi / 2 * frequency).square().to(sinogram)
        filtered = torch.fft.irfft(spectrum, 2 * detectors)[..., :detectors]
        return self.adjoint(filtered) * (math.pi / (self.geometry.angles * (self.geometry.side * self.scale) ** 2))

    def _apply_forward(self, image: Tensor) -> Tensor:
        projected: Tensor = self.projection(image.reshape(-1, self.projection.inputs))
        return projected.view(-1, *self.measurement_shape)

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        image: Tensor = self.backprojection(measurement.reshape(-1, self.backprojection.inputs))
        return image.view(-1, *self.image_shape)
