"""PSNR and SSIM, image by image or volume by volume, with what they are taken of and the range they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

if TYPE_CHECKING:
    from bench.records import Metric, Range, Window

UNIFORM = 7  # pixels of a side of scikit-image's default window


@dataclass(frozen=True)
class Metrics:
    """How images [B, C, H, W] are compared.

    fastMRI's evaluation is that of the "magnitude", by "volume", with the "uniform" window.

    Attributes:
        data_range: largest minus smallest possible value.
        of: "image"; of a complex one, whose real and imaginary part are two channels, also "real" or "magnitude".
        range: what PSNR and SSIM are relative to: "fixed" is `data_range`, "image" each true image's largest minus
            smallest value, "volume" the largest value of the volume, all of whose slices make one PSNR and one SSIM.
        window: of SSIM: "gaussian", of sigma 1.5, as published; "uniform", 7 x 7, as scikit-image's default.
    """

    data_range: float
    of: Metric
    range: Range = "fixed"
    window: Window = "gaussian"

    def psnr_db(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """10 log10(range^2 / mean squared error) of each image, [B]; by volume each slice with the fixed range."""
        reconstruction, image = self._compared(reconstruction), self._compared(image)
        if self.range == "image":
            error = (reconstruction - image).square().mean(dim=(1, 2, 3))
            return 10 * torch.log10(_extent(image).square() / error)
        return peak_signal_noise_ratio(
            reconstruction, image, data_range=self.data_range, reduction="none", dim=(1, 2, 3)
        )

    def ssim(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Structural similarity (Wang et al., 2004) of each image, [B]; by volume each slice with the fixed range."""
        reconstruction, image = self._compared(reconstruction), self._compared(image)
        ranges = _extent(image) if self.range == "image" else image.new_full((len(image),), self.data_range)
        return self._similarity(reconstruction, image, ranges)

    def of_volumes(
        self, reconstructions: Tensor, images: Tensor, volumes: Sequence[str]
    ) -> tuple[list[float], list[float]]:
        """PSNR and SSIM of each volume, in the order of their first slices, as fastMRI's evaluate.py takes them.

        The range is the largest value of the volume's slices here, the squared error its mean over all of them, SSIM
        the mean over slices.

        Args:
            reconstructions: slices, shape (N, C, H, W).
            images: the true ones.
            volumes: the name of the volume that each slice is of, N of them.
        """
        reconstructions, images = self._compared(reconstructions), self._compared(images)
        psnr_db, ssim = [], []
        for volume in dict.fromkeys(volumes):
            slices = torch.tensor([name == volume for name in volumes])
            pair = reconstructions[slices], images[slices]
            largest = pair[1].max()
            psnr_db.append(float(10 * torch.log10(largest.square() / (pair[0] - pair[1]).square().mean())))
            ssim.append(float(self._similarity(*pair, largest.expand(len(pair[0]))).mean()))
        return psnr_db, ssim

    def extent(self, image: Tensor) -> Tensor:
        """Largest minus smallest value of what is compared of each image, [B]."""
        return _extent(self._compared(image))

    def _similarity(self, reconstruction: Tensor, image: Tensor, ranges: Tensor) -> Tensor:
        if self.window == "uniform":
            return uniform_ssim(reconstruction, image, ranges)
        similarity = [
            structural_similarity_index_measure(
                reconstruction[n : n + 1], image[n : n + 1], data_range=float(ranges[n]), reduction="none"
            )
            for n in range(len(image))
        ]
        return torch.cat([each.reshape(-1) for each in similarity if isinstance(each, Tensor)])

    def _compared(self, image: Tensor) -> Tensor:
        if self.of == "real":
            return image[:, :1]
        return torch.linalg.vector_norm(image, dim=1, keepdim=True) if self.of == "magnitude" else image


def uniform_ssim(reconstruction: Tensor, image: Tensor, ranges: Tensor) -> Tensor:
    """SSIM with a uniform 7 x 7 window and sample covariances, where the window fits, mean over channels: [B].

    Args:
        reconstruction: shape (B, C, H, W).
        image: of the same shape.
        ranges: of each image, shape (B,).
    """
    n = UNIFORM * UNIFORM

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.double(), UNIFORM, stride=1)

    a, b = mean(reconstruction), mean(image)
    sample = n / (n - 1)
    a_squared, b_squared = (
        sample * (mean(x.double().square()) - m.square()) for x, m in ((reconstruction, a), (image, b))
    )
    both = sample * (mean(reconstruction.double() * image.double()) - a * b)
    c1, c2 = ((k * ranges.double()).square().view(-1, 1, 1, 1) for k in (0.01, 0.03))
    similarity = (2 * a * b + c1) * (2 * both + c2) / ((a.square() + b.square() + c1) * (a_squared + b_squared + c2))
    return similarity.mean(dim=(1, 2, 3))


def _extent(image: Tensor) -> Tensor:
    """Largest minus smallest value of each image, [B]."""
    values = image.flatten(1)
    return values.amax(1) - values.amin(1)
