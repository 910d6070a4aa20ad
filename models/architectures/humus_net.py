"""HUMUS-Net: unrolled gradient descent with a hybrid of transformer and convolutions (Fabian et al., 2022).

arXiv:2203.08213; https://github.com/z-fabian/HUMUS-Net, models/humus_net.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..humus_block import HumusBlock, multiple_of
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator


@dataclass(frozen=True)
class HUMUSOptions:
    """The denoiser of HUMUS-Net; the defaults are the published one's.

    Attributes:
        width: channels of the transformer's largest scale.
        depths: blocks at each scale, on the way down and on the way up.
        heads: of the attention at each scale.
        bottleneck_depth: blocks at the smallest scale.
        bottleneck_heads: heads there.
        window: side of the attention's windows in pixels.
        mlp_ratio: channels inside a block's MLP over those outside.
        pads: images whose sides do not divide are made larger at the right and below, by their last pixels.
    """

    width: int = 66
    depths: tuple[int, ...] = (2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12)
    bottleneck_depth: int = 2
    bottleneck_heads: int = 24
    window: int = 8
    mlp_ratio: float = 2.0
    pads: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.depths) <= 8 or len(self.depths) != len(self.heads):
            raise ValueError(f"depths and heads need an entry for each scale, got {self.depths} and {self.heads}")
        if self.width % 2 or not 2 <= self.width <= 4096:
            raise ValueError(f"width must be even, at least 2 and at most 4,096, got {self.width}")
        if not 1 <= self.window <= 64:
            raise ValueError(f"window must be at least 1 and at most 64, got {self.window}")
        if not 0 < self.mlp_ratio <= 64:
            raise ValueError(f"mlp_ratio must be more than 0 and at most 64, got {self.mlp_ratio}")
        if min(*self.depths, self.bottleneck_depth) < 1 or max(*self.depths, self.bottleneck_depth) > 1000:
            raise ValueError(f"depths must be at least 1 and at most 1,000, got {self.depths}, {self.bottleneck_depth}")
        for scale, heads in enumerate((*self.heads, self.bottleneck_heads)):
            if heads < 1 or (self.width << scale) % heads:
                raise ValueError(f"heads must divide the channels of their scale, {self.width << scale}, got {heads}")

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of."""
        return multiple_of(len(self.depths), self.window)


class HUMUSNet(Architecture):
    """x_{k+1} = x_k - w_k A^T (A x_k - y) - N_k(x_k), K cascades with weights and a step of their own each.

    N_k is a `models.humus_block.HumusBlock`. In k-space, and for one coil, this is the authors' cascade. They have
    several coils, whose sensitivities one more network estimates, three adjacent slices at once, and stochastic depth;
    none of these is here. With ``options.checkpoint``, as published, a cascade keeps only its x_k.
    """

    name = "HUMUS-Net"
    table_column = 7
    can_checkpoint = True
    Own = HUMUSOptions
    own: HUMUSOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        own = self.own
        self.step = nn.Parameter(torch.full((options.stages,), options.initial_step))
        height, width = operator.image_shape[1:]
        self.margins = (-width % own.multiple, -height % own.multiple)
        sides = height + self.margins[1], width + self.margins[0]
        bottleneck = own.bottleneck_depth, own.bottleneck_heads
        denoisers = nn.ModuleList(
            HumusBlock(self.channels, sides, own.width, own.depths, own.heads, bottleneck, own.window, own.mlp_ratio)
            for _ in range(options.stages)
        )
        self.denoisers = cast("Sequence[HumusBlock]", denoisers)

    @classmethod
    def refusal_of(cls, options: ModelOptions) -> str | None:
        """As everywhere; and a cascade is checkpointed as a whole."""
        if options.checkpoint_layers:
            return f"{cls.name} has no layers to checkpoint again inside a cascade; choose checkpoint alone"
        return super().refusal_of(options)

    @classmethod
    def refusal_for(
        cls, options: ModelOptions, operator: type[Operator], image_shape: Callable[[], Sequence[int]]
    ) -> str | None:
        """As everywhere; and without padding every side must divide."""
        own, sides = cls.own_of(options), image_shape()[1:]
        if not own.pads and any(side % own.multiple for side in sides):
            near = " x ".join(str(side + -side % own.multiple) for side in sides)
            return (
                f"it halves images {len(own.depths) + 1} times into windows of {own.window} pixels, so that sides must "
                f"be multiples of {own.multiple}, got {sides[0]} x {sides[1]}; choose pads = true or images of {near}"
            )
        return super().refusal_for(options, operator, image_shape)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        x = self.initial_estimate(measurement)
        iterates: list[Tensor] = []
        for step, denoiser in zip(self.step, self.denoisers, strict=True):
            if self.options.checkpoint:
                x = checkpoint(
                    self._cascade, x, measurement, step, denoiser, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = self._cascade(x, measurement, step, denoiser)
            if all_iterates:
                iterates.append(x)
        return Reconstruction(x, iterates)

    def _cascade(self, x: Tensor, y: Tensor, step: Tensor, denoiser: HumusBlock) -> Tensor:
        """x_{k+1} of x_k, both (B, C, H, W)."""
        height, width = x.shape[-2:]
        image = F.pad(x, (0, self.margins[0], 0, self.margins[1]), mode="replicate") if any(self.margins) else x
        denoised: Tensor = denoiser(image)
        return self.gradient_step(x, y, step) - denoised[..., :height, :width]
