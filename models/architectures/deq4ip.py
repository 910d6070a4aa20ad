"""DEQ4IP: a deep equilibrium model of one iteration (Gilton et al., 2021; paper, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..dncnn import DnCNN
from ..implicit import Map, fixed_point
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator

_MOMENTUM = 0.1


@dataclass(frozen=True)
class EquilibriumOptions:
    """How DEQ4IP is made to have a fixed point; the defaults are the paper's text, whose map often has none.

    Attributes:
        normalises: BatchNorm normalises, or else scales and shifts alone, with the same parameters.
        anchor: a; the iterate becomes a x_0 + (1 - a) f. With a = 0.2 a map f whose differences grow by less than
            1 / 0.8 has a fixed point, and the gradient through it is finite, in the operator's null space too.
        clamp: iterates stay within [-clamp, clamp]; 0: they are free. The authors have 1.
        trains_step: the gradient step's size is trained. The authors keep theirs, 0.2 for deblurring, 0.4 for MRI.
        initial_residual_scale: as that of `ModelOptions`, which it replaces.
    """

    normalises: bool = True
    anchor: float = 0.0
    clamp: float = 0.0
    trains_step: bool = True
    initial_residual_scale: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.anchor < 1:
            raise ValueError(f"anchor must be at least 0 and less than 1, got {self.anchor}")
        if not 0 <= self.clamp < inf:
            raise ValueError(f"clamp must be finite and not negative, got {self.clamp}")
        if self.initial_residual_scale is not None and not isfinite(self.initial_residual_scale):
            raise ValueError(f"initial_residual_scale must be finite, got {self.initial_residual_scale}")


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
    Own = EquilibriumOptions
    own: EquilibriumOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        means = self.own
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
        if options.kept_share is not None and not cls.own_of(options).normalises:
            return f"{cls.name} with deq4ip.normalises = false makes no outputs again; leave kept_share out"
        return super().refusal_of(options)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        weights = self.denoiser.weights()
        x, statistics = fixed_point(
            self.equilibrium,
            (measurement, self.step, *weights),
            self.initial_estimate(measurement),
            gradient=self.options.gradient,
            solver=self.options.solver,
            backward_solver=self.options.backward_solver,
        )
        if self.training and self.own.normalises:
            with torch.no_grad(), self.denoiser.momentum(_MOMENTUM):
                self.equilibrium(measurement, self.step, *weights)(x)
        return Reconstruction(x, [x] if all_iterates else [], [statistics])

    def denoise(self, noisy: Tensor) -> Tensor:
        """DnCNN alone, with which the authors start: trained beforehand on images (B, C, H, W) with white noise."""
        denoised: Tensor = self.denoiser(noisy, self.denoiser.weights())
        return denoised

    def equilibrium(self, y: Tensor, step: Tensor, *weights: Tensor) -> Map:
        """The map z -> DnCNN(z + step A^T (y - A z)), z of shape (B, C, H, W); clamped and anchored if asked."""
        anchor, clamp = self.own.anchor, self.own.clamp
        start = self.initial_estimate(y) if anchor else None

        def f(z: Tensor) -> Tensor:
            image = self.denoiser(self.gradient_step(z, y, step), weights, self.options.kept_share)
            if clamp:
                image = image.clamp(-clamp, clamp)
            return image if start is None else torch.lerp(image, start, anchor)

        return f
