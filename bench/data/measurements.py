"""Measurements of images: y = A x + noise, simulated or their own, the same for every network that is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bench.data.attenuation import MAX_ATTENUATION
from bench.data.base import ImageSet, seed_of
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.operators.base import Operator

LEAST_COUNT = 0.1  # what a detector cell without a photon is taken to have counted, as in LoDoPaB-CT


@dataclass(frozen=True)
class Noise:
    """The noise of a measurement.

    Attributes:
        sigma: standard deviation of white Gaussian noise, in units of the measurement and on each of its real
            numbers (MRI: real and imaginary part, measured columns only).
        photons: of CT, emitted per detector cell: the counts are Poisson, the measurement their negative logarithm.
            None for none of this; LoDoPaB-CT has 4096.

    Raises:
        UsageError: a negative sigma, or photons that are not positive.
    """

    sigma: float = 0.0
    photons: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise UsageError(f"noise got sigma {self.sigma}, expected a standard deviation of at least 0")
        if self.photons is not None and not 0 < self.photons < float("inf"):
            raise UsageError(f"noise got {self.photons} photons, expected a positive number per detector cell")


class MeasuredSet(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of an image x and its measurement y = A x + noise, both float32 on the CPU.

    The noise of a pair depends on the seed, the split and the index alone.

    Args:
        images: the images x.
        operator: A; on the CPU, in float32.
        noise: what disturbs A x.
        seed: of the noise.
        own: take the measurements that the images come with, to which nothing is added, instead of simulated ones.
        measured: the images and the operator that measurements are made with, if those are others than the ones that
            they are reconstructed with: on a finer grid, or with another kernel. The same images by the same index.

    Raises:
        UsageError: an operator is for another image shape, there are photons without a Radon transform, or the two
            operators' measurements have different shapes.
    """

    def __init__(
        self,
        images: ImageSet,
        operator: Operator,
        noise: Noise,
        seed: int = 0,
        measured: tuple[ImageSet, Operator] | None = None,
        own: bool = False,
    ) -> None:
        if operator.image_shape != tuple(images.image_shape):
            raise UsageError(
                f"{type(operator).__name__} is for images {list(operator.image_shape)}, "
                f"{images.name} gives {list(images.image_shape)}: ask for the same shape"
            )
        if noise.photons is not None and operator.attenuation_scale is None:
            raise UsageError(
                f"noise got photons with {type(operator).__name__}, expected Radon: only CT counts photons"
            )
        self.measured_images, self.measuring = measured or (images, operator)
        if self.measuring.measurement_shape != operator.measurement_shape:
            raise UsageError(
                f"measurements are made of shape {list(self.measuring.measurement_shape)} and reconstructed from "
                f"{list(operator.measurement_shape)}: give options in measured_by that keep the shape"
            )
        self.images = images
        self.operator = operator
        self.noise = noise
        self.seed = seed
        self.own = own

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The image [C, H, W] and its measurement [*measurement_shape] at `index`.

        Raises:
            IndexError: no such image.
            UsageError: the image's file cannot be read.
        """
        image = self.images[index]
        if self.own:
            return image, self.images.observation(index % len(self), self.operator_of(index))
        generator = torch.Generator().manual_seed(seed_of("noise", self.seed, self.images.split, index % len(self)))
        truth = image if self.measured_images is self.images else self.measured_images[index]
        measuring = self._drawn(self.measuring, index)
        with torch.no_grad():
            measurement = measuring(truth.unsqueeze(0)).squeeze(0)
        scale, own_scale = self.measuring.attenuation_scale, self.operator.attenuation_scale
        if self.noise.photons is not None and scale is not None:
            measurement = _counted(measurement, self.noise.photons, scale, generator)
        if scale is not None and own_scale is not None and scale != own_scale:
            measurement = measurement * (own_scale / scale)  # from one operator's units to the other's
        if self.noise.sigma:
            noise = self.noise.sigma * torch.randn(measurement.shape, generator=generator)
            measurement = measurement + measuring.where_measured(noise)
        return image, measurement

    def operator_of(self, index: int) -> Operator:
        """A as the image was measured: all images of a subject have one, whatever the seed of the noise."""
        return self._drawn(self.operator, index)

    def _drawn(self, operator: Operator, index: int) -> Operator:
        return operator.drawn(seed_of("mask", self.images.subjects[index]))


def _counted(measurement: Tensor, photons: float, scale: float, generator: torch.Generator) -> Tensor:
    """The measurement as photons tell it: counts ~ Poisson(photons exp(-attenuation)), y ~ -log(counts / photons).

    `scale` is measurement over line integral in metres.
    """
    attenuation = measurement.double() * (MAX_ATTENUATION / scale)
    counts = torch.poisson(photons * torch.exp(-attenuation), generator=generator).clamp_(min=LEAST_COUNT)
    return (-torch.log(counts / photons) * (scale / MAX_ATTENUATION)).float()
