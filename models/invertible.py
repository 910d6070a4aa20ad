"""Chains of invertible layers, whose backward pass makes each layer's input again from its output.

So a chain keeps its last state alone, however long it is (Gomez et al., 2017; Putzky and Welling, 2019). What a layer
keeps while it is taken back is gone before the one before it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrizations import weight_norm

from .precision import as_now, full_precision

Undone = tuple[Tensor, Tensor, list[Tensor | None], Tensor | None]
"""The state before a layer, its gradient, those of the layer's parameters, None of what is not trained, and that of the
measurement if there is."""


class Invertible(Protocol):
    """A layer state, measurement -> state, both states of shape (B, C, H, W)."""

    def __call__(self, state: Tensor, y: Tensor) -> Tensor:
        """The state after it."""

    def inverse(self, state: Tensor, y: Tensor) -> Tensor:
        """The state before it, of that after it."""

    def undo(self, state: Tensor, y: Tensor, g: Tensor) -> Undone:
        """`inverse`, and the gradients there, of the gradient g of the state after it; leaves no graph."""

    def parameters(self) -> Any:
        """What is trained, in the order in which `undo` gives the gradients."""


class Update(nn.Module):
    """F: a convolution of k x k pixels in steps of k, ReLU, 3x3, ReLU, the first transposed, and GLU.

    Weights are normalised, w = g v / |v|, over all axes but the first (Salimans and Kingma, 2016).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        hidden: channels between.
        stride: k; a rest of the image's side that is no multiple of it stays as it is.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(inputs, hidden, stride, stride))
        self.second = weight_norm(nn.Conv2d(hidden, hidden, 3, padding=1))
        self.last = weight_norm(nn.ConvTranspose2d(hidden, 2 * outputs, stride, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        hidden = F.relu(self.second(F.relu(self.first(x))))
        result: Tensor = F.glu(self.last(hidden, output_size=list(x.shape[-2:])), 1)
        return result


class Coupling(nn.Module):
    """x -> W^T c(W x), c(u, v) = (u, v + F(u)) on the halves of the channels, W a product of reflections.

    Args:
        channels: of the state; an even number.
        hidden: as for `Update`.
        stride: as for `Update`.
        reflections: I - 2 w w^T / |w|^2, of which W is the product.
    """

    def __init__(self, channels: int, hidden: int, stride: int, reflections: int = 3) -> None:
        super().__init__()
        self.left_channels = channels // 2
        self.normals = nn.Parameter(torch.randn(reflections, channels))
        self.update = Update(self.left_channels, channels - self.left_channels, hidden, stride)

    def forward(self, state: Tensor, y: Tensor) -> Tensor:
        """The state after it, (B, C, H, W)."""
        return self._around(state, 1)

    def inverse(self, state: Tensor, y: Tensor) -> Tensor:
        """The state before it, (B, C, H, W)."""
        return self._around(state, -1)

    def _around(self, state: Tensor, sign: int) -> Tensor:
        rotation = self.rotation()
        left, right = self._halves(_mixed(state, rotation))
        changed = torch.cat((left, torch.add(right, self.update(left).to(right.dtype), alpha=sign)), 1)
        return _mixed(changed, rotation.T)

    def undo(self, state: Tensor, y: Tensor, g: Tensor) -> Undone:
        """As for every `Invertible`; F is evaluated once for both."""
        with torch.enable_grad():
            rotation = self.rotation()
        W = rotation.detach()
        after, g_after = _mixed(state, W), _mixed(g, W)
        left, right = self._halves(after)
        g_left, g_right = self._halves(g_after)
        with torch.enable_grad():
            left = left.detach().requires_grad_()
            update = self.update(left)
        parameters = list(self.update.parameters())
        wanted = [left, *(each for each in parameters if each.requires_grad)]
        g_update, *found = torch.autograd.grad(update, wanted, g_right.to(update.dtype))
        of_update = iter(found)
        before = torch.cat((left.detach(), right - update.detach()), 1)
        del update
        of_rotation = _outer(after, g)
        g_before = torch.cat((g_left + g_update, g_right), 1)
        state, g = _mixed(before, W.T), _mixed(g_before, W.T)
        of_rotation += _outer(g_before, state)
        of_normals = torch.autograd.grad(rotation, self.normals, of_rotation)[0] if rotation.requires_grad else None
        return state, g, [of_normals, *(next(of_update) if each.requires_grad else None for each in parameters)], None

    def rotation(self) -> Tensor:
        """W, orthogonal, (C, C)."""
        with full_precision(self.normals):
            W = torch.eye(self.normals.shape[1], dtype=self.normals.dtype, device=self.normals.device)
            for normal in self.normals:
                W = W - torch.outer(W @ normal, normal) * (2 / normal.square().sum())
            return W

    def _halves(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state[:, : self.left_channels], state[:, self.left_channels :]


def _mixed(state: Tensor, W: Tensor) -> Tensor:
    """Every pixel's channels times W: (B, C, H, W) -> (B, C, H, W)."""
    with full_precision(state):
        return F.conv2d(state, W[:, :, None, None])


def _outer(one: Tensor, other: Tensor) -> Tensor:
    """The sum of one other^T over all pixels, (C, C)."""
    return torch.bmm(one.flatten(2), other.flatten(2).mT).sum(0)


def run_chain(
    layers: Sequence[Invertible], state: Tensor, y: Tensor, channels: int, looks: Sequence[int]
) -> tuple[Tensor, ...]:
    """The first channels of the state after some of the layers, each (B, channels, H, W); the last state alone is kept.

    Args:
        layers: of the chain.
        state: before the first, (B, C, H, W).
        y: the measurement that all of them see.
        channels: how many.
        looks: after how many layers; the last of them after all.
    """
    parameters = list(chain.from_iterable(layer.parameters() for layer in layers))
    images: tuple[Tensor, ...] = _Chain.apply(tuple(layers), channels, tuple(looks), state, y, *parameters)
    return images


class _Chain(Function):
    """State, measurement and parameters -> images; its backward walks the chain back."""

    @staticmethod
    def forward(
        ctx: Any,
        layers: tuple[Invertible, ...],
        channels: int,
        looks: tuple[int, ...],
        state: Tensor,
        y: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.layers, ctx.channels, ctx.looks, ctx.in_network = layers, channels, looks, as_now(state)
        images = []
        for number, layer in enumerate(layers, start=1):
            state = layer(state, y)
            if number in looks:
                images.append(state[:, :channels].clone())
        ctx.save_for_backward(state, y)
        return tuple(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_images: Tensor) -> tuple[Tensor | None, ...]:
        state, y = ctx.saved_tensors
        g, of_y = torch.zeros_like(state), torch.zeros_like(y) if ctx.needs_input_grad[4] else None
        at = dict(zip(ctx.looks, of_images, strict=True))
        gradients: list[Tensor | None] = []
        with ctx.in_network():
            for number, layer in reversed(list(enumerate(ctx.layers, start=1))):
                if number in at:
                    g[:, : ctx.channels] += at[number]
                state, g, of_layer, part = layer.undo(state, y, g)
                gradients[:0] = of_layer
                if of_y is not None and part is not None:
                    of_y += part
        return None, None, None, g, of_y, *gradients
