"""PSNR and SSIM, image by image, always with the range of the data and with what they are taken of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

if TYPE_CHECKING:
    from bench.records import Metric


@dataclass(frozen=True)
class Metrics:
    """How images [B, C, H, W] are compared.

    Attributes:
        data_range: largest minus smallest possible value.
        of: "image"; of a complex one, whose real and imaginary part are two channels, also "real" or "magnitude".
    """

    data_range: float
    of: Metric

    def psnr_db(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """10 log10(data_range^2 / mean squared error) of each image, [B]."""
        pair = self._compared(reconstruction), self._compared(image)
        return peak_signal_noise_ratio(*pair, data_range=self.data_range, reduction="none", dim=(1, 2, 3))

    def ssim(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Structural similarity (Wang et al., 2004) of each image, [B]: Gaussian window of 11 x 11, sigma 1.5."""
        pair = self._compared(reconstruction), self._compared(image)
        similarity = structural_similarity_index_measure(*pair, data_range=self.data_range, reduction="none")
        assert isinstance(similarity, Tensor)
        return similarity.reshape(-1)

    def _compared(self, image: Tensor) -> Tensor:
        if self.of == "real":
            return image[:, :1]
        return torch.linalg.vector_norm(image, dim=1, keepdim=True) if self.of == "magnitude" else image
