"""DnCNN-17 (Zhang et al., 2017), the proximal network of LU-DnCNN and DEQ4IP (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import PLAIN, Arithmetic, BatchNorm, Layer, conv3x3, keep_size, run, scale_residual, stack, weights_of


class DnCNN(nn.Module):
    """The map d -> d + R(d).

    R is a 3x3 convolution C -> 64 with ReLU, then 15 of (convolution 64 -> 64, BatchNorm, ReLU), then a
    convolution 64 -> C; no convolution has a bias.

    Args:
        channels: C, of the image.
        features: channels inside.
        depth: number of convolutions.
        spectral: normalise every convolution spectrally, by one of `spectral.NORMS`.
        normalises: let BatchNorm normalise. Else it scales and shifts alone, and its scales start such that noise keeps
            its size from layer to layer: the net of 15 normalisations multiplies small differences by some 20 at the
            start of training, this one keeps them.
        inplace: let each ReLU overwrite its input.
        momentum: of BatchNorm's running averages; None leaves them alone.
        residual_scale: initial scale of the last BatchNorm, and so of R.
    """

    def __init__(
        self,
        channels: int,
        *,
        features: int = 64,
        depth: int = 17,
        spectral: str | None = None,
        normalises: bool = True,
        inplace: bool = True,
        momentum: float | None = 0.1,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        conv = partial(conv3x3, spectral=spectral, bias=False)
        relu = partial(F.relu, inplace=inplace)
        self.layers = stack(
            Layer(conv(channels, features), None, relu),
            *(
                Layer(conv(features, features), BatchNorm(features, momentum, normalises=normalises), relu)
                for _ in range(depth - 2)
            ),
            Layer(conv(features, channels)),
        )
        if not normalises:
            keep_size(self.layers[1:-1])
        scale_residual(self.layers, residual_scale)

    def weights(self, arithmetic: Arithmetic = PLAIN) -> tuple[Tensor, ...]:
        """The tensors that `forward` depends on; call it once per forward pass of the whole model."""
        return tuple(weights_of(self.layers, arithmetic))

    def forward(self, d: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return d + R(d): (B, C, H, W) -> (B, C, H, W)."""
        return d + run(self.layers, d, iter(weights))

    @contextmanager
    def momentum(self, momentum: float | None) -> Iterator[None]:
        """Within this context BatchNorm's running averages move by `momentum`, or not at all if None."""
        norms = [module for module in self.modules() if isinstance(module, BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm, previous in zip(norms, before, strict=True):
                norm.momentum = previous
