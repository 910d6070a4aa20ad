"""Reconstructions of held-out images, timed and judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bench.accuracy.metrics import Metrics
    from bench.accuracy.splits import Batch
    from bench.models.architectures.base import Architecture

Reconstruct = Callable[[Tensor], Tensor]
"""Measurements [B, *measurement_shape] to images [B, C, H, W]."""


@dataclass(frozen=True)
class Evaluation:
    """What became of some batches.

    Attributes:
        psnr_db: of each image; infinite where the reconstruction is the image, to the last bit.
        ssim: of each image.
        seconds: that the reconstructions took, all together.
        finite: whether every reconstruction is a number everywhere, and so near its image that PSNR and SSIM are.
    """

    psnr_db: list[float]
    ssim: list[float]
    seconds: float
    finite: bool


@torch.no_grad()
def evaluate(reconstruct: Reconstruct, batches: Sequence[Batch], metrics: Metrics, device: torch.device) -> Evaluation:
    """Reconstruct batches, which are on the CPU, on `device`, and judge them."""
    psnr_db: list[float] = []
    ssim: list[float] = []
    seconds = 0.0
    finite = True
    for image, measurement in batches:
        image, measurement = image.to(device), measurement.to(device)
        _synchronize(device)
        start = time.perf_counter()
        reconstruction = reconstruct(measurement)
        _synchronize(device)
        seconds += time.perf_counter() - start
        finite = finite and bool(reconstruction.isfinite().all())
        psnr_db += metrics.psnr_db(reconstruction, image).tolist()
        ssim += metrics.ssim(reconstruction, image).tolist()
    judged = all(map(is_psnr, psnr_db)) and all(map(math.isfinite, ssim))
    return Evaluation(psnr_db, ssim, seconds, finite and judged)


def is_psnr(psnr_db: float) -> bool:
    """Whether it is the PSNR of a reconstruction: a number, or infinite of the very image."""
    return psnr_db > -math.inf  # False of what is not a number


@torch.no_grad()
def mean_psnr_db(reconstruct: Reconstruct, batches: Sequence[Batch], metrics: Metrics, device: torch.device) -> float:
    """The mean of the images' PSNR."""
    values = [metrics.psnr_db(reconstruct(y.to(device)), image.to(device)) for image, y in batches]
    return float(torch.cat(values).mean())


def network(model: Architecture) -> Reconstruct:
    """A network as a method of reconstruction: in evaluation mode meanwhile, and left in training mode."""

    def reconstruct(measurement: Tensor) -> Tensor:
        model.eval()
        try:
            return model(measurement).image  # type: ignore[no-any-return]
        finally:
            model.train()

    return reconstruct


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
