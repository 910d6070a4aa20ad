"""The shallow equilibrium regulariser of LUSER (paper, section 3, figure 1, table 1)."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .implicit import Map
from .layers import PLAIN, WIDTH, Arithmetic, GroupNorm, Layer, conv3x3, run, scale_residual, stack, weights_of


class LuserBlock(nn.Module):
    """The map r -> Mix(Data(r) (+) Inject(d)) of eq. (7), (+) a concatenation of channels.

    Table 1, every convolution 3x3 with padding 1, bias and spectral normalisation (the second data layer,
    printed there as 1 -> 32, reads 32 -> 32):

    * Inject: convolutions C -> 32, 32 -> 32, each with LeakyReLU;
    * Data: convolutions C -> 32, 32 -> 32, each with GroupNorm and LeakyReLU;
    * Mix: convolutions 64 -> 64, 64 -> 64, each with GroupNorm and LeakyReLU, then a convolution 64 -> C.

    Args:
        channels: C, of the image.
        groups: of GroupNorm (unspecified in the paper).
        slope: of LeakyReLU (unspecified in the paper).
        inplace: let each LeakyReLU overwrite its input.
        residual_scale: initial scale of the last GroupNorm, and so of r.
        spectral: what convolutions are normalised by, one of `spectral.NORMS`.
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 4,
        slope: float = 0.2,
        inplace: bool = True,
        residual_scale: float = 1.0,
        spectral: str = "matrix",
    ) -> None:
        super().__init__()
        conv = partial(conv3x3, spectral=spectral, bias=True)
        act = partial(F.leaky_relu, negative_slope=slope, inplace=inplace)
        c, w = channels, WIDTH
        self.inject = stack(
            Layer(conv(c, w), None, act),
            Layer(conv(w, w), None, act),
        )
        self.data = stack(
            Layer(conv(c, w), GroupNorm(groups, w), act),
            Layer(conv(w, w), GroupNorm(groups, w), act),
        )
        self.mix = stack(
            Layer(conv(2 * w, 2 * w), GroupNorm(groups, 2 * w), act),
            Layer(conv(2 * w, 2 * w), GroupNorm(groups, 2 * w), act),
            Layer(conv(2 * w, c)),
        )
        scale_residual(self.mix, residual_scale)

    def weights(self, arithmetic: Arithmetic = PLAIN) -> tuple[Tensor, ...]:
        """The tensors that `equilibrium` depends on; call it once per forward pass of the whole model."""
        return tuple(weights_of([*self.inject, *self.data, *self.mix], arithmetic))

    def equilibrium(self, d: Tensor, *weights: Tensor) -> Map:
        """The map r -> Mix(Data(r) (+) Inject(d)), for d and r of shape (B, C, H, W); injects once."""
        supply = iter(weights)
        injected = run(self.inject, d, supply)
        held = tuple(supply)

        def f(r: Tensor) -> Tensor:
            supply = iter(held)
            return run(self.mix, torch.cat((run(self.data, r, supply), injected), dim=1), supply).to(r.dtype)

        return f
