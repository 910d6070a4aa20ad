"""DEQ4IP: a deep equilibrium model of one iteration (Gilton et al., 2021; paper, section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..dncnn import DnCNN
from ..implicit import Map, fixed_point
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator

_MOMENTUM = 0.1


class DEQ4IP(Architecture):
    """x = z* with z* = f(z*, y), f(z, y) = DnCNN(z + lambda A^T (y - A z)), eq. (6); spectral normalisation.

    BatchNorm inside the solver: in training mode every evaluation of f, with or without graph, normalises
    with the statistics of its own batch, as in the authors' code, and touches nothing else; so f is one fixed
    map, though of the whole batch rather than of each sample. The running averages move once per forward
    pass, by one evaluation more at the solution: the statistics that evaluation mode will need are those there.

    `EquilibriumOptions` has what makes f a map with a fixed point.
    """

    name = "DEQ4IP"
    table_column = 2
    has_fixed_points = True
    can_be_lean = True
    has_iterates = False

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        self.means = means = options.deq4ip
        scale = means.initial_residual_scale
        self.denoiser = DnCNN(
            self.channels,
            spectral=options.spectral,
            normalises=means.normalises,
            inplace=options.inplace,
            momentum=None,
            residual_scale=options.initial_residual_scale if scale is None else scale,
        )
        self.step.requires_grad_(means.trains_step)

    @classmethod
    def refusal_of(cls, options: ModelOptions) -> str | None:
        """As everywhere; and layers that are made again have to normalise."""
        if options.kept_share is not None and not options.deq4ip.normalises:
            return f"{cls.name} with deq4ip.normalises = false makes no outputs again; leave kept_share out"
        return super().refusal_of(options)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        weights = self.denoiser.weights()
        x, statistics = fixed_point(
            self.equilibrium,
            (measurement, self.step, *weights),
            self.operator.initial_estimate(measurement),
            gradient=self.options.gradient,
            solver=self.options.solver,
            backward_solver=self.options.backward_solver,
        )
        if self.training and self.means.normalises:
            with torch.no_grad(), self.denoiser.momentum(_MOMENTUM):
                self.equilibrium(measurement, self.step, *weights)(x)
        return Reconstruction(x, [x] if all_iterates else [], [statistics])

    def denoise(self, noisy: Tensor) -> Tensor:
        """DnCNN alone, with which the authors start: trained beforehand on images (B, C, H, W) with white noise."""
        denoised: Tensor = self.denoiser(noisy, self.denoiser.weights())
        return denoised

    def equilibrium(self, y: Tensor, step: Tensor, *weights: Tensor) -> Map:
        """The map z -> DnCNN(z + step A^T (y - A z)), z of shape (B, C, H, W); clamped and anchored if asked."""
        anchor, clamp = self.means.anchor, self.means.clamp
        start = self.operator.initial_estimate(y) if anchor else None

        def f(z: Tensor) -> Tensor:
            image = self.denoiser(self.gradient_step(z, y, step), weights, self.options.kept_share)
            if clamp:
                image = image.clamp(-clamp, clamp)
            return image if start is None else torch.lerp(image, start, anchor)

        return f
