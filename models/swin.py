"""Swin transformer blocks (Liu et al., 2021; arXiv:2103.14030) on images whose sides the window divides."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Attention of each window's pixels to each other, softmax(q k^T / sqrt(d) + b) v, with b of their offset.

    Args:
        width: channels.
        window: side of the window in pixels.
        heads: that the channels are shared out among.
    """

    offset: Tensor

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.trunc_normal_(self.bias, std=0.02)
        row, column = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
        rows, columns = (each[:, None] - each[None, :] + window - 1 for each in (row, column))
        self.register_buffer("offset", rows * (2 * window - 1) + columns, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(windows, pixels, C) -> the same; `mask`, (windows of an image, pixels, pixels), is added before softmax."""
        windows, pixels, width = x.shape
        q, k, v = self.qkv(x).view(windows, pixels, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias[self.offset.flatten()].view(pixels, pixels, self.heads).permute(2, 0, 1)
        if mask is not None:
            by_image = scores.view(-1, len(mask), self.heads, pixels, pixels) + mask[:, None]
            scores = by_image.view(windows, self.heads, pixels, pixels)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, pixels, width)
        result: Tensor = self.out(mixed)
        return result


class SwinBlock(nn.Module):
    """x + Attention(LN x), then x + MLP(LN x); windows are shifted by half of one if `shifted`.

    In windows of one part of the image only pixels of that part see each other. Where the window is the whole image,
    nothing is shifted.

    Args:
        width: channels.
        sides: of the image in pixels; multiples of the window.
        window: side of the window.
        heads: of the attention.
        mlp_ratio: channels inside the MLP over `width`.
        shifted: whether windows are.
    """

    mask: Tensor | None

    def __init__(
        self, width: int, sides: tuple[int, int], window: int, heads: int, mlp_ratio: float, *, shifted: bool
    ) -> None:
        super().__init__()
        self.sides, self.window = sides, window
        self.shift = window // 2 if shifted and min(sides) > window else 0
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, window, heads)
        self.norm2 = nn.LayerNorm(width)
        inner = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.register_buffer("mask", self._parts_apart() if self.shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H W, C) -> (B, H W, C)."""
        batch, pixels, width = x.shape
        windows = self._rolled(self.norm1(x).view(batch, *self.sides, width), -1)
        mixed = self.attention(windowed(windows, self.window), self.mask)
        image = self._rolled(unwindowed(mixed, self.window, *self.sides), 1)
        x = x + image.view(batch, pixels, width)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result

    def _rolled(self, image: Tensor, sign: int) -> Tensor:
        return torch.roll(image, (sign * self.shift,) * 2, (1, 2)) if self.shift else image

    def _parts_apart(self) -> Tensor:
        """0 for two pixels of one part of the shifted image, else -100: (windows, pixels, pixels)."""
        of_rows, of_columns = (self._parts(side) for side in self.sides)
        parts = (2 * of_rows[:, None] + of_columns).view(1, *self.sides, 1)
        own = windowed(parts, self.window).squeeze(-1)
        return (own[:, None, :] != own[:, :, None]).to(torch.get_default_dtype()) * -100.0

    def _parts(self, side: int) -> Tensor:
        """1 beyond the border, which lies in the last window alone."""
        return (torch.arange(side) >= side - self.shift).long()


def windowed(x: Tensor, window: int) -> Tensor:
    """An image's windows, (B, H, W, C) -> (B windows, window^2, C)."""
    batch, height, width, channels = x.shape
    split = x.view(batch, height // window, window, width // window, window, channels)
    return split.transpose(2, 3).reshape(-1, window * window, channels)


def unwindowed(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The image of windows, (B windows, window^2, C) -> (B, H, W, C)."""
    split = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return split.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


class PatchMerging(nn.Module):
    """2 x 2 pixels become one of twice the channels: LN, then a linear map of all four.

    Args:
        width: channels before.
        sides: of the image before; even.
    """

    def __init__(self, width: int, sides: tuple[int, int]) -> None:
        super().__init__()
        self.sides = sides
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H W, C) -> (B, H W / 4, 2 C)."""
        image = x.view(len(x), *self.sides, x.shape[-1])
        quarters = [image[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged = torch.cat(quarters, -1).flatten(1, 2)
        return cast("Tensor", self.reduction(self.norm(merged)))


class PatchExpanding(nn.Module):
    """One pixel becomes 2 x 2 of half the channels; these are mixed with what is skipped to, and LN.

    Args:
        width: channels before.
        sides: of the image before.
    """

    def __init__(self, width: int, sides: tuple[int, int]) -> None:
        super().__init__()
        self.sides = sides
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.mix = nn.Linear(width, width // 2, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """(B, H W, C), (B, 4 H W, C / 2) -> (B, 4 H W, C / 2)."""
        height, width = self.sides
        image = self.expand(x).view(len(x), height, width, 2, 2, -1)
        image = image.transpose(2, 3).reshape(len(x), 4 * height * width, -1)
        return cast("Tensor", self.norm(self.mix(torch.cat((image, skipped), -1))))


class ResidualSwin(nn.Module):
    """x + conv(blocks(x)), blocks that are shifted by turns and a 3x3 convolution (Liang et al., 2021, SwinIR).

    Args:
        width: channels.
        sides: of the image.
        depth: blocks.
        heads: of their attention.
        window: as for `SwinBlock`.
        mlp_ratio: as for `SwinBlock`.
    """

    def __init__(
        self, width: int, sides: tuple[int, int], depth: int, heads: int, window: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.sides = sides
        self.blocks = nn.Sequential(
            *(SwinBlock(width, sides, window, heads, mlp_ratio, shifted=bool(place % 2)) for place in range(depth))
        )
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H W, C) -> (B, H W, C)."""
        image = self.blocks(x).transpose(1, 2).unflatten(2, self.sides)
        result: Tensor = self.conv(image).flatten(2).transpose(1, 2) + x
        return result


def start_linear(module: nn.Module) -> None:
    """Weights of linear maps start at a truncated normal of deviation 0.02, their biases at 0."""
    for each in module.modules():
        if isinstance(each, nn.Linear):
            nn.init.trunc_normal_(each.weight, std=0.02)
            if each.bias is not None:
                nn.init.zeros_(each.bias)


def instance_normalised(x: Tensor) -> Tensor:
    """Each channel of each sample less its mean, over its deviation; then LeakyReLU of slope 0.2: (B, C, H, W)."""
    return F.leaky_relu_(F.instance_norm(x), 0.2)
