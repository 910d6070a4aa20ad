"""Reconstructions of held-out images, timed and judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.records import Solves

if TYPE_CHECKING:
    from bench.accuracy.metrics import Metrics
    from bench.accuracy.splits import Batch
    from bench.models.anderson import SolveStatistics
    from bench.models.architectures.base import Architecture

Reconstruct = Callable[[Tensor], Tensor]
"""Measurements [B, *measurement_shape] to images [B, C, H, W]."""


@dataclass(frozen=True)
class Evaluation:
    """What became of some batches.

    Attributes:
        psnr_db: of each image, or volume; infinite where the reconstruction is the image, to the last bit.
        ssim: of each image, or volume.
        seconds: that the reconstructions took, all together.
        finite: whether every reconstruction is a number everywhere, and so near its image that PSNR and SSIM are.
    """

    psnr_db: list[float]
    ssim: list[float]
    seconds: float
    finite: bool


@torch.no_grad()
def evaluate(
    reconstruct: Reconstruct,
    batches: Sequence[Batch],
    metrics: Metrics,
    device: torch.device,
    volumes: Sequence[str] = (),
) -> Evaluation:
    """Reconstruct batches, which are on the CPU, on `device`, and judge them.

    `volumes` names the volume that each image is of; where the range is a volume's, each is judged as a whole.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
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
        if metrics.range == "volume":
            pairs.append((reconstruction, image))
            continue
        psnr_db += metrics.psnr_db(reconstruction, image).tolist()
        ssim += metrics.ssim(reconstruction, image).tolist()
    if pairs:
        reconstructions, images = (torch.cat(part) for part in zip(*pairs, strict=True))
        psnr_db, ssim = metrics.of_volumes(reconstructions, images, volumes)
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


class Network:
    """A network as a method of reconstruction: in evaluation mode meanwhile, and left in training mode.

    Attributes:
        solves: what became of all fixed points so far.
    """

    def __init__(self, model: Architecture) -> None:
        self.model = model
        self.solves: list[SolveStatistics] = []

    def __call__(self, measurement: Tensor) -> Tensor:
        """Measurements [B, *measurement_shape] to images [B, C, H, W]."""
        self.model.eval()
        try:
            done = self.model(measurement)
        finally:
            self.model.train()
        self.solves += done.solves
        return done.image  # type: ignore[no-any-return]


def counted(solves: Sequence[SolveStatistics], tolerance: float) -> Solves | None:
    """How many of the solves found their fixed point; None where there are no fixed points."""
    if not solves:
        return None
    residuals = torch.cat([solve.residuals.flatten() for solve in solves])
    return Solves(
        count=residuals.numel(),
        converged=int((residuals <= tolerance).sum()),
        worst_residual=float(residuals.max()),
    )


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
