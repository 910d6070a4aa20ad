"""Layers that keep the outputs of their convolutions alone, or of some of them, for the backward pass.

Of convolution -> norm -> activation autograd keeps two tensors a layer: what the norm reads, and what the activation
gives. The second follows from the first at the price of two passes over memory. So a layer keeps its convolution's
output y and nothing else (where there is no norm, the activation's output, whose signs are those of its input); with a
share below 1, only that share of the layers keeps it, and the others' convolutions are run again from the last y that
was kept (Chen et al., 2016). Every sum is the one that autograd takes, so that gradients differ by rounding at most.

The first convolution may have an image in place of its bias: what other inputs than x give to its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from .layers import BatchNorm, GroupNorm, Layer, convolve
from .precision import full_precision, network_type

aten = torch.ops.aten

_Norm = tuple[Tensor, Tensor, Tensor]


def run_lean(
    layers: Sequence[Layer], x: Tensor, weights: Sequence[Tensor], kept_share: float, *, again: bool = False
) -> Tensor:
    """Evaluate `layers` in training mode on x, shape (B, C_in, H, W), as `run` does: (B, C_out, H, W).

    Args:
        layers: of which the last is a bare convolution.
        x: the input.
        weights: as `weights_of` yields them.
        kept_share: of the convolutions before the last, those that keep their output, in (0, 1].
        again: keep x alone, and make what is to be kept in backward.

    Returns:
        The output; under torch.autocast in its type, in which everything between is too.
    """
    result: Tensor = _Lean.apply(tuple(layers), kept_share, again, x, *weights)
    return result


class _Weights(NamedTuple):
    """Of one layer; `places` are theirs among all weights."""

    kernel: Tensor
    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    places: tuple[int, ...]


def _of_layers(layers: Sequence[Layer], weights: Sequence[Tensor], dtype: torch.dtype) -> Iterator[_Weights]:
    supply = enumerate(weights)

    def take(wanted: bool, is_cast: bool = True) -> tuple[Tensor | None, tuple[int, ...]]:
        if not wanted:
            return None, ()
        place, tensor = next(supply)
        return (tensor.to(dtype) if is_cast else tensor), (place,)

    for layer in layers:
        place, kernel = next(supply)
        bias, of_bias = take(layer.conv.bias is not None)
        is_cast = isinstance(layer.norm, GroupNorm)  # batch normalisation has halves beside its averages in float32
        scale, of_scale = take(layer.norm is not None, is_cast)
        shift, of_shift = take(layer.norm is not None, is_cast)
        yield _Weights(kernel.to(dtype), bias, scale, shift, (place, *of_bias, *of_scale, *of_shift))


def _is_kept(layer: int, share: float) -> bool:
    """Whether one of many layers is among those of the share that are spread evenly over them."""
    return floor((layer + 1) * share + 1e-9) > floor(layer * share + 1e-9)


def _normalised(layer: Layer, y: Tensor, weights: _Weights, momentum: float | None) -> _Norm:
    """The norm of y with its mean and inverse deviation; running averages move if there is a momentum."""
    norm, scale, shift = layer.norm, weights.scale, weights.shift
    if isinstance(norm, GroupNorm):
        images, channels, *sides = y.shape
        of_groups: _Norm = aten.native_group_norm(
            y, scale, shift, images, channels, prod(sides), norm.num_groups, norm.eps
        )
        return of_groups
    assert isinstance(norm, BatchNorm)
    averages = (norm.running_mean, norm.running_var) if momentum is not None else (None, None)
    of_batch: _Norm = aten.native_batch_norm(y, scale, shift, *averages, True, momentum or 0.0, norm.eps)
    return of_batch


def _activated(layer: Layer, y: Tensor, weights: _Weights, momentum: float | None = None) -> Tensor:
    """What the next layer reads: the activation of the norm of y; y itself where there is no norm."""
    if layer.norm is None:
        return y
    x, _, _ = _normalised(layer, y, weights, momentum)
    return x if layer.activation is None else F.leaky_relu_(x, layer.slope)


def _convolved(layer: Layer, x: Tensor, weights: _Weights) -> Tensor:
    """The convolution of x, with its activation where there is no norm between them."""
    y = convolve(x, weights.kernel, weights.bias)
    return y if layer.norm is not None or layer.activation is None else F.leaky_relu_(y, layer.slope)


def _evaluate(
    layers: Sequence[Layer], x: Tensor, weights: Sequence[_Weights], share: float, *, moves_averages: bool
) -> tuple[Tensor, list[Tensor | None]]:
    """The last layer's output, and those outputs of the others that are kept."""
    outputs: list[Tensor | None] = []
    *inner, last = zip(layers, weights, strict=True)
    for number, (layer, of_layer) in enumerate(inner):
        y = _convolved(layer, x, of_layer)
        momentum = getattr(layer.norm, "momentum", None) if moves_averages else None
        x = _activated(layer, y, of_layer, momentum)
        outputs.append(y if _is_kept(number, share) else None)
        del y
    return _convolved(last[0], x, last[1]), outputs


def _restore(
    layers: Sequence[Layer], x: Tensor, weights: Sequence[_Weights], outputs: list[Tensor | None], number: int
) -> None:
    """Make `outputs[number]` again, if it was not kept, and all those between it and the last that was."""
    first = number
    while first >= 0 and outputs[first] is None:
        first -= 1
    if first == number:
        return
    kept = outputs[first] if first >= 0 else None
    x = x if kept is None else _activated(layers[first], kept, weights[first])
    for place in range(first + 1, number + 1):
        y = outputs[place] = _convolved(layers[place], x, weights[place])
        if place < number:
            x = _activated(layers[place], y, weights[place])


def _pull_back(
    layers: Sequence[Layer],
    x: Tensor,
    weights: Sequence[_Weights],
    outputs: list[Tensor | None],
    g: Tensor,
    wanted: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """The gradient of x, and those of the weights that are `wanted`, of the last output's gradient g.

    `outputs` is used up: each is let go as soon as its layer is done.
    """
    gradients: list[Tensor | None] = [None] * len(wanted)
    for number in reversed(range(len(layers))):
        layer, own = layers[number], weights[number]
        if number < len(layers) - 1:
            g = _through_norm(layer, x, weights, layers, outputs, number, g, wanted, gradients)
        kernel, *others = own.places
        if own.bias is not None and wanted[others[0]]:
            gradients[others[0]] = g.sum((0, 2, 3)) if own.bias.dim() == 1 and own.bias.numel() else g
        if wanted[kernel]:
            before = x
            if number:
                _restore(layers, x, weights, outputs, number - 1)
                y = outputs[number - 1]
                assert y is not None
                before = _activated(layers[number - 1], y, weights[number - 1])
                del y
            gradients[kernel] = conv2d_weight(before, list(own.kernel.shape), g, padding=1)
            del before
        g = F.conv_transpose2d(g, own.kernel, padding=1)
    return g, gradients


def _through_norm(
    layer: Layer,
    x: Tensor,
    weights: Sequence[_Weights],
    layers: Sequence[Layer],
    outputs: list[Tensor | None],
    number: int,
    g: Tensor,
    wanted: Sequence[bool],
    gradients: list[Tensor | None],
) -> Tensor:
    """The gradient of a convolution's output, of g after its norm and activation; g is overwritten."""
    _restore(layers, x, weights, outputs, number)
    y, own = outputs[number], weights[number]
    assert y is not None
    outputs[number] = None
    if layer.norm is None:
        return g if layer.activation is None else _through_activation(g, y, layer.slope)
    normalised, mean, inverse_deviation = _normalised(layer, y, own, None)
    if layer.activation is not None:
        g = _through_activation(g, normalised, layer.slope)
    del normalised
    *_, scale, shift = own.places
    norm = layer.norm
    if isinstance(norm, GroupNorm):
        images, channels, *sides = y.shape
        g, of_scale, of_shift = aten.native_group_norm_backward(
            g, y, mean, inverse_deviation, own.scale, images, channels, prod(sides), norm.num_groups, [True] * 3
        )
    else:
        g, of_scale, of_shift = aten.native_batch_norm_backward(
            g, y, own.scale, None, None, mean, inverse_deviation, True, norm.eps, [True] * 3
        )
    for place, gradient in ((scale, of_scale), (shift, of_shift)):
        gradients[place] = gradient if wanted[place] else None
    return g


def _through_activation(g: Tensor, x: Tensor, slope: float) -> Tensor:
    """G times the slope where x is not positive, in place."""
    through: Tensor = aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=g)
    return through


class _Lean(Function):
    """x and weights -> the last layer's output; under autocast everything between has its type."""

    @staticmethod
    def forward(ctx: Any, layers: tuple[Layer, ...], share: float, again: bool, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.type = network_type(x)
        ctx.layers, ctx.share, ctx.again = layers, share, again
        with full_precision(x):
            start = x.to(ctx.type)
            cast = list(_of_layers(layers, weights, ctx.type))
            image, outputs = _evaluate(layers, start, cast, 0.0 if again else share, moves_averages=True)
        ctx.places = [place for place, output in enumerate(outputs) if output is not None]
        needed = list(weights)
        for of_layer, output in zip(cast, outputs, strict=False):
            if output is not None and of_layer.bias is not None and of_layer.bias.dim() == 4:
                needed[of_layer.places[1]] = of_layer.bias.new_empty(0)  # what it gave is in the output
        ctx.save_for_backward(x, *needed, *(output for output in outputs if output is not None))
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        wants_x, *wanted = ctx.needs_input_grad[3:]
        x, *saved = ctx.saved_tensors
        weights, kept = saved[: len(wanted)], saved[len(wanted) :]
        layers: tuple[Layer, ...] = ctx.layers
        outputs: list[Tensor | None] = [None] * (len(layers) - 1)
        for place, output in zip(ctx.places, kept, strict=True):
            outputs[place] = output
        start = x.to(ctx.type)
        cast = list(_of_layers(layers, weights, ctx.type))
        if ctx.again:
            _, outputs = _evaluate(layers, start, cast, ctx.share, moves_averages=False)
        of_x, gradients = _pull_back(layers, start, cast, outputs, g.to(ctx.type), wanted)
        typed = (
            None if gradient is None else gradient.to(weight.dtype)
            for gradient, weight in zip(gradients, weights, strict=True)
        )
        return None, None, None, of_x.to(x.dtype) if wants_x else None, *typed
