"""One evaluation of a multiscale deep equilibrium model (Bai et al., 2020; arXiv:2006.08656, figure 2).

https://github.com/locuslab/deq, MDEQ-Vision/lib/models/mdeq_core.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CALM = 0.2
"""Initial scale of two norms of a block: of what z adds to the injection, and of what a branch adds to the others.

With PyTorch's own, 1, each evaluation makes small differences larger at the start of training, as GroupNorm takes back
whatever ReLU and convolutions make smaller, and there is no fixed point to find.
"""


class ResidualBlock(nn.Module):
    """z -> GN(ReLU(GN(conv(ReLU(GN(conv z))) + u) + z)), both convolutions 3x3 and without bias.

    Args:
        width: channels of z and of what is injected, u.
        expansion: how many times more there are between the convolutions.
        groups: of every GroupNorm.
    """

    def __init__(self, width: int, expansion: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, expansion * width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, expansion * width)
        self.conv2 = nn.Conv2d(expansion * width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, width)
        self.norm3 = nn.GroupNorm(groups, width)
        for norm in (self.norm1, self.norm3):
            nn.init.constant_(norm.weight, CALM)

    def forward(self, z: Tensor, injected: Tensor | None) -> Tensor:
        """(B, width, H, W), and as much or nothing that is injected -> (B, width, H, W)."""
        inner = self.conv2(F.relu_(self.norm1(self.conv1(z))))
        if injected is not None:
            inner = inner + injected
        result: Tensor = self.norm3(F.relu_(self.norm2(inner) + z))
        return result


class Downsample(nn.Sequential):
    """By 2 ** `levels`: 3x3 convolutions in steps of 2, each with GN, and ReLU between them."""

    def __init__(self, width: int, levels: int, groups: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(levels):
            conv = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.GroupNorm(groups, width), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class Multiscale(nn.Module):
    """(z_1 ... z_n), u -> (z_1 ... z_n), each at half the side of the one before; u is injected into the first.

    Each z_i goes through a `ResidualBlock`; each is then the sum of all of them at its own size, followed by ReLU, a
    1x1 convolution and GN. A larger one is taken down by `Downsample`, a smaller one up by a 1x1 convolution, GN and
    the nearest pixel. A side that is odd is halved upwards.

    Args:
        branches: n.
        width: channels of each.
        expansion: as for `ResidualBlock`.
        groups: of GroupNorm; half as many in the last ones, as with the authors.
        scale: initial scale of the last ones.
    """

    def __init__(self, branches: int, width: int, expansion: int, groups: int, scale: float) -> None:
        super().__init__()
        self.branches, self.width = branches, width
        blocks = nn.ModuleList(ResidualBlock(width, expansion, groups) for _ in range(branches))
        self.blocks = cast("Sequence[ResidualBlock]", blocks)
        fusions = nn.ModuleDict()
        for to in range(branches):
            for of in range(branches):
                if of < to:
                    fusions[f"{of}_{to}"] = Downsample(width, to - of, groups)
                elif of > to:
                    conv = nn.Conv2d(width, width, 1, bias=False)
                    fusions[f"{of}_{to}"] = nn.Sequential(conv, nn.GroupNorm(groups, width))
        self.fusions = fusions
        last = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.GroupNorm(max(groups // 2, 1), width))
            for _ in range(branches)
        )
        self.last = cast("Sequence[nn.Sequential]", last)
        for _, norm in self.last:
            nn.init.constant_(cast("Tensor", norm.weight), scale)

    def sides(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of each branch, in pixels, for an image of these sides."""
        found = [(height, width)]
        for _ in range(1, self.branches):
            height, width = (height + 1) // 2, (width + 1) // 2
            found.append((height, width))
        return found

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        """All branches one after the other, (B, n), and u, (B, width, H, W) -> (B, n), as a solver takes them."""
        parts = self.parted(z, injected.shape[-2], injected.shape[-1])
        through = [
            block(part, None if number else injected)
            for number, (block, part) in enumerate(zip(self.blocks, parts, strict=True))
        ]
        found = [self.last[to](F.relu_(self._fused(through, to))).flatten(1) for to in range(self.branches)]
        return torch.cat(found, 1)

    def parted(self, z: Tensor, height: int, width: int) -> list[Tensor]:
        """The branches of z, (B, n) -> (B, width, H_i, W_i) each."""
        sides = self.sides(height, width)
        parts = z.split([self.width * h * w for h, w in sides], 1)
        return [part.view(-1, self.width, h, w) for part, (h, w) in zip(parts, sides, strict=True)]

    def _fused(self, through: Sequence[Tensor], to: int) -> Tensor:
        total: Tensor | None = None
        for of, part in enumerate(through):
            if of != to:
                part = self.fusions[f"{of}_{to}"](part)
            if of > to:
                part = F.interpolate(part, through[to].shape[-2:], mode="nearest")
            total = part if total is None else total + part
        assert total is not None
        return total
