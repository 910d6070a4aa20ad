"""The denoiser of HUMUS-Net: a transformer of several scales between convolutions (Fabian et al., 2022).

arXiv:2203.08213, section 4; https://github.com/z-fabian/HUMUS-Net, models/humus_block.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .swin import PatchExpanding, PatchMerging, ResidualSwin, instance_normalised, start_linear


class _Convolutions(nn.Module):
    """Twice a 3x3 convolution, instance normalisation and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return instance_normalised(self.second(instance_normalised(self.first(x))))


class MultiscaleTransformer(nn.Module):
    """A U-net of `ResidualSwin`s: each of the way down is merged to half the side, each of the way up expanded.

    Args:
        width: channels at the largest scale; twice as many at each next one.
        sides: of the image at the largest scale.
        depths: blocks at each scale.
        heads: of the attention at each scale.
        bottleneck: depth and heads at the smallest scale.
        window: of the attention in pixels.
        mlp_ratio: of its blocks.
    """

    def __init__(
        self,
        width: int,
        sides: tuple[int, int],
        depths: Sequence[int],
        heads: Sequence[int],
        bottleneck: tuple[int, int],
        window: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        scales = [(width << place, (sides[0] >> place, sides[1] >> place)) for place in range(len(depths) + 1)]

        def residual(scale: int, depth: int, heads: int) -> ResidualSwin:
            return ResidualSwin(*scales[scale], depth, heads, window, mlp_ratio)

        each = list(enumerate(zip(depths, heads, strict=True)))
        self.embed = nn.LayerNorm(width)
        self.down = nn.ModuleList(residual(place, *shape) for place, shape in each)
        self.merge = nn.ModuleList(PatchMerging(*scales[place]) for place, _ in each)
        self.norm_down = nn.LayerNorm(scales[-1][0])
        self.bottleneck = residual(len(depths), *bottleneck)
        self.expand = nn.ModuleList(PatchExpanding(*scales[place + 1]) for place, _ in reversed(each))
        self.up = nn.ModuleList(residual(place, *shape) for place, shape in reversed(each))
        self.norm_up = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, H, W)."""
        x = self.embed(image.flatten(2).transpose(1, 2))
        skipped = []
        for residual, merge in zip(self.down, self.merge, strict=True):
            skipped.append(residual(x))
            x = merge(skipped[-1])
        x = self.bottleneck(self.norm_down(x))
        for expand, residual in zip(self.expand, self.up, strict=True):
            x = residual(expand(x, skipped.pop()))
        result: Tensor = self.norm_up(x).transpose(1, 2).unflatten(2, image.shape[2:])
        return result


class HumusBlock(nn.Module):
    """x -> x + Last(Convs(Up(conv(T(Down(Convs(First x))))) (+) First x)), (+) a concatenation of channels.

    First and Last are 3x3 convolutions, Down and Up go to half the side and back, T is a `MultiscaleTransformer`. Each
    channel of x is normalised first, and what comes out is brought back.

    Args:
        channels: of the image.
        sides: of the image, multiples of `multiple_of` those scales and that window.
        width: channels of T; half as many outside.
        depths: as for `MultiscaleTransformer`, like all that follow.
        heads: see there.
        bottleneck: see there.
        window: see there.
        mlp_ratio: see there.
    """

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        bottleneck: tuple[int, int],
        window: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        half = width // 2
        self.first = nn.Conv2d(channels, half, 3, padding=1)
        self.before = _Convolutions(half, width)
        self.down = nn.Conv2d(width, width, 2, stride=2, bias=False)
        inner = (sides[0] // 2, sides[1] // 2)
        self.transformer = MultiscaleTransformer(width, inner, depths, heads, bottleneck, window, mlp_ratio)
        self.after_transformer = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.ConvTranspose2d(width, half, 2, stride=2, bias=False)
        self.after = _Convolutions(width, half)
        self.last = nn.Conv2d(half, channels, 3, padding=1)
        start_linear(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, *sides) -> (B, channels, *sides)."""
        deviation, mean = torch.std_mean(image, (2, 3), keepdim=True)
        deviation = deviation.clamp(min=torch.finfo(image.dtype).tiny)
        x = (image - mean) / deviation
        first = self.first(x)
        inner = instance_normalised(self.down(self.before(first)))
        inner = self.after_transformer(self.transformer(inner))
        outer = torch.cat((instance_normalised(self.up(inner)), first), 1)
        return cast("Tensor", (x + self.last(self.after(outer))) * deviation + mean)


def multiple_of(scales: int, window: int) -> int:
    """What the sides must be multiples of: halved once, and for each of the scales, windows must divide them."""
    return window << (scales + 1)
