"""Convolution, normalisation, activation: layers evaluated with weights that the caller holds.

A fixed-point solver evaluates the same network some fifty times, and its backward pass may rebuild one of
these evaluations later. All must see the same (spectrally normalised) weights, and the gradient must reach
them; so a network hands out its weights once per forward pass, `weights_of`, and is then a pure function of
its input and of these tensors, `run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .spectral import SpectralConv2d

Activation = Callable[[Tensor], Tensor]

WIDTH = 32
"""Output channels of a LUSER block's injection and data layers; its mixing layers have twice as many."""


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm with its scale and shift handed in."""

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise x, shape (B, C, H, W), within each sample and group; scale and shift have shape (C,)."""
        return F.group_norm(x, self.num_groups, scale, shift, self.eps)


class BatchNorm(nn.Module):
    """nn.BatchNorm2d with its scale and shift handed in, and its running averages under control.

    In training mode it normalises with the statistics of the batch. `momentum` says what becomes of the
    running averages (used in evaluation mode) then: they move towards the batch by this fraction, or, if it
    is None, stay out of it. If it does not `normalise`, it scales and shifts alone.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float | None, eps: float = 1e-5, *, normalises: bool) -> None:
        super().__init__()
        self.normalises = normalises
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise x, shape (B, C, H, W), over the batch and space; scale and shift have shape (C,)."""
        if not self.normalises:
            scale, shift = (each.to(x.dtype)[:, None, None] for each in (scale, shift))
            return torch.addcmul(shift, x, scale)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, scale, shift, eps=self.eps)
        if self.momentum is None:
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=self.eps)
        averages = (self.running_mean, self.running_var)
        return F.batch_norm(x, *averages, scale, shift, training=True, momentum=self.momentum, eps=self.eps)


class Layer(nn.Module):
    """conv -> norm -> activation, the last two optional."""

    def __init__(
        self, conv: nn.Conv2d, norm: GroupNorm | BatchNorm | None = None, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation

    @property
    def slope(self) -> float:
        """The activation's where its input is negative; 0 is that of ReLU."""
        return float(getattr(self.activation, "keywords", {}).get("negative_slope", 0.0))


def scale_residual(layers: Sequence[Layer], scale: float) -> None:
    """Make what the last layer, a bare convolution, gives `scale` times smaller: by the norm before it.

    The convolution itself cannot do it, as spectral normalisation takes back any scaling of its weight.
    """
    norm = layers[-2].norm
    if norm is not None:
        nn.init.constant_(norm.weight, scale)


@torch.no_grad()
def keep_size(layers: Sequence[Layer]) -> None:
    """Start the scale of each layer's norm such that convolution and ReLU keep the mean square of white noise.

    The convolution multiplies it by |W|^2 / C_out, the ReLU halves it (He et al., 2015).
    """
    for layer in layers:
        conv, norm = layer.conv, layer.norm
        if norm is not None:
            weight = conv.normalised_weight() if isinstance(conv, SpectralConv2d) else conv.weight
            norm.weight.copy_((math.sqrt(2 * conv.out_channels) / weight.norm()).expand_as(norm.weight))


def stack(*layers: Layer) -> Sequence[Layer]:
    """The layers as an nn.ModuleList, which a module that holds it registers."""
    return cast("Sequence[Layer]", nn.ModuleList(layers))


def weights_of(layers: Iterable[Layer]) -> Iterator[Tensor]:
    """The tensors one evaluation of `layers` depends on, in the order in which `run` takes them.

    Kernel, bias if there is one, then the norm's scale and shift if there is one. Kernels of a
    `SpectralConv2d` come normalised, so call this once per forward pass and hold on to the result.
    """
    for layer in layers:
        conv, norm = layer.conv, layer.norm
        yield conv.normalised_weight() if isinstance(conv, SpectralConv2d) else conv.weight
        if conv.bias is not None:
            yield conv.bias
        if norm is not None:
            yield from (norm.weight, norm.bias)


def count_weights(layers: Iterable[Layer]) -> int:
    """How many tensors `weights_of` yields, without yielding any: a spectral norm moves with each."""
    return sum(1 + (layer.conv.bias is not None) + 2 * (layer.norm is not None) for layer in layers)


def run(layers: Iterable[Layer], x: Tensor, weights: Iterator[Tensor]) -> Tensor:
    """Evaluate `layers` on x, shape (B, C_in, H, W), taking their tensors from `weights`: (B, C_out, H, W).

    One flat loop: without a graph no more than a layer's input and output are alive at any time.
    """
    for layer in layers:
        kernel, bias = next(weights), None if layer.conv.bias is None else next(weights)
        x = convolve(x, kernel, bias)
        if layer.norm is not None:
            x = layer.norm.normalise(x, next(weights), next(weights))
        if layer.activation is not None:
            x = layer.activation(x)
    return x


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x, (B, C_in, H, W), by 3x3, and add a bias of shape (C_out,) or the output's: (B, C_out, H, W)."""
    if bias is None or bias.dim() == 1:
        return F.conv2d(x, kernel, bias, padding=1)
    return F.conv2d(x, kernel, padding=1).add_(bias)


def conv3x3(in_channels: int, out_channels: int, *, spectral: str | None, bias: bool) -> nn.Conv2d:
    """A 3x3 convolution that keeps the image size, spectrally normalised by one of `spectral.NORMS` if asked."""
    if spectral:
        return SpectralConv2d(in_channels, out_channels, 3, bias=bias, norm=spectral)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
