"""MDEQ: a multiscale deep equilibrium model as the regulariser of an unrolled network (Bai et al., 2020).

arXiv:2006.08656; https://github.com/locuslab/deq, MDEQ-Vision/experiments/cifar/cls_mdeq_TINY.yaml has the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.func import functional_call

from ..anderson import SolveStatistics
from ..implicit import Map, fixed_point
from ..multiscale import Multiscale
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator


@dataclass(frozen=True)
class MDEQOptions:
    """The multiscale map; the defaults are the authors' small network for CIFAR-10.

    Attributes:
        branches: resolutions, each half the one before.
        width: channels of each.
        expansion: how many times more there are inside a branch's block.
        groups: of GroupNorm.
    """

    branches: int = 2
    width: int = 24
    expansion: int = 5
    groups: int = 8

    def __post_init__(self) -> None:
        for name, most in (("branches", 8), ("width", 4096), ("expansion", 64), ("groups", 4096)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be at least 1 and at most {most:,}, got {getattr(self, name)}")
        if self.width % self.groups:
            raise ValueError(f"groups must divide the width, {self.width}, got {self.groups}")


class MDEQ(Architecture):
    """d_k = x_k + lambda A^T (y - A x_k), x_{k+1} = d_k + Head(z_1*), z* = f(z*, Inject(d_k)), z = (z_1 ... z_n).

    The stages are LUSER's, and share their weights; f is a `models.multiscale.Multiscale`. Inject is two 3x3
    convolutions with GN and ReLU (with BatchNorm at the authors', which would mix the samples), Head one of 3x3. The
    last GroupNorms of f, and so z* and the correction, start at ``options.initial_residual_scale``. Dropout and weight
    normalisation, which the GroupNorm after each convolution takes back, are left out.
    """

    name = "MDEQ"
    table_column = 6
    has_fixed_points = True
    Own = MDEQOptions
    own: MDEQOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        own, width = self.own, self.own.width
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        self.inject = nn.Sequential(
            *(conv(self.channels, width), nn.GroupNorm(own.groups, width), nn.ReLU(inplace=True)),
            *(conv(width, width), nn.GroupNorm(own.groups, width), nn.ReLU(inplace=True)),
        )
        self.map = Multiscale(own.branches, width, own.expansion, own.groups, options.initial_residual_scale)
        self.head = nn.Conv2d(width, self.channels, 3, padding=1)

    @classmethod
    def refusal_for(
        cls, options: ModelOptions, operator: type[Operator], image_shape: Callable[[], Sequence[int]]
    ) -> str | None:
        """As everywhere; and the smallest branch must have something to normalise."""
        branches, side = cls.own_of(options).branches, min(image_shape()[1:])
        if side < 2**branches:
            return f"{branches} branches need sides of at least {2**branches} pixels, got {side}; choose fewer branches"
        return super().refusal_for(options, operator, image_shape)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        weights = tuple(self.map.parameters())
        x = self.initial_estimate(measurement)
        height, width = x.shape[-2:]
        size = self.own.width * sum(h * w for h, w in self.map.sides(height, width))
        iterates: list[Tensor] = []
        solves: list[SolveStatistics] = []
        for _ in range(self.options.stages):
            d = self.gradient_step(x, measurement, self.step)
            z, statistics = fixed_point(
                self.equilibrium,
                (self.inject(d), *weights),
                d.new_zeros(len(d), size),
                gradient=self.options.gradient,
                solver=self.options.solver,
                backward_solver=self.options.backward_solver,
            )
            x = d + self.head(self.map.parted(z, height, width)[0])
            solves.append(statistics)
            if all_iterates:
                iterates.append(x)
        return Reconstruction(x, iterates, solves)

    def equilibrium(self, injected: Tensor, *weights: Tensor) -> Map:
        """The map z -> f(z, u), z of shape (B, n), u of shape (B, width, H, W), with weights as `map.parameters()`."""
        names = [name for name, _ in self.map.named_parameters()]
        held = dict(zip(names, weights, strict=True))

        def f(z: Tensor) -> Tensor:
            image: Tensor = functional_call(self.map, held, (z, injected))
            return image

        return f
