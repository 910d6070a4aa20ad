"""LU-DnCNN: loop unrolling with DnCNN as the proximal network (paper, section 2.1, eqs. (4) and (5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..dncnn import DnCNN
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator


class LUDnCNN(Architecture):
    """x_{k+1} = DnCNN(x_k + lambda A^T (y - A x_k)) for K stages, which share the weights of DnCNN.

    With ``options.checkpoint`` a stage keeps only its d_k; backward runs DnCNN again, not the operator.
    """

    name = "LU-DnCNN"
    table_column = 1
    can_checkpoint = True
    can_be_lean = True

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        self.denoiser = DnCNN(self.channels, inplace=options.inplace, residual_scale=options.initial_residual_scale)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        weights = self.denoiser.weights()
        x = self.initial_estimate(measurement)
        iterates: list[Tensor] = []
        for _ in range(self.options.stages):
            d = self.gradient_step(x, measurement, self.step)
            x = self._denoised(d, weights)
            if all_iterates:
                iterates.append(x)
        return Reconstruction(x, iterates)

    def _denoised(self, d: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        """DnCNN(d), (B, C, H, W), of which backward finds what the options say."""
        options = self.options
        if options.checkpoint:
            return self.denoiser.forward_again(d, weights, options.kept_share, options.checkpoint_layers)
        x: Tensor = self.denoiser(d, weights, options.kept_share)
        return x
