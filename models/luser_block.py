"""The shallow equilibrium regulariser of LUSER (paper, section 3, figure 1, table 1)."""

from __future__ import annotations

from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .implicit import Map
from .layers import WIDTH, GroupNorm, Layer, conv3x3, count_weights, run, scale_residual, stack, weights_of
from .lean import run_lean


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
        kept_share: of the convolutions' outputs, for backward, as for `run_lean`; None: what autograd keeps.
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
        kept_share: float | None = None,
        spectral: str = "matrix",
    ) -> None:
        super().__init__()
        self.kept_share = kept_share
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

    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that `equilibrium` depends on; call it once per forward pass of the whole model."""
        return tuple(weights_of([*self.inject, *self.data, *self.mix]))

    def equilibrium(self, d: Tensor, *weights: Tensor) -> Map:
        """The map r -> Mix(Data(r) (+) Inject(d)), for d and r of shape (B, C, H, W); injects once."""
        if self.kept_share is not None and self.training:
            return self._lean(d, weights, self.kept_share)
        supply = iter(weights)
        injected = run(self.inject, d, supply)
        held = tuple(supply)

        def f(r: Tensor) -> Tensor:
            supply = iter(held)
            return run(self.mix, torch.cat((run(self.data, r, supply), injected), dim=1), supply)

        return f

    def _lean(self, d: Tensor, weights: tuple[Tensor, ...], kept_share: float) -> Map:
        """The same map, whose first mixing convolution is two, of what is injected and of the rest, and a sum.

        The first of the two does not depend on r, and there is no concatenation to keep. Of what is injected d alone is
        kept: it is made again once for each fixed point.
        """
        supply = iter(weights)
        of_inject, of_data = (list(islice(supply, count_weights(layers))) for layers in (self.inject, self.data))
        kernel, bias, *of_mix = supply
        for_data, for_injected = (half.contiguous() for half in kernel.chunk(2, dim=1))
        injection = (*self.inject, Layer(self.mix[0].conv))
        constant = run_lean(injection, d, (*of_inject, for_injected, bias), kept_share, again=True)
        layers = (*self.data, *self.mix)
        held = (*of_data, for_data, constant, *of_mix)

        def f(r: Tensor) -> Tensor:
            is_kept = torch.is_grad_enabled()
            return run_lean(layers, r, held, kept_share) if is_kept else run(layers, r, iter(held))

        return f
