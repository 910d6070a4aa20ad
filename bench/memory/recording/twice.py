"""The gradient of a convolution's gradient, as a card computes it: by convolutions of copies.

PyTorch makes tensors contiguous before these convolutions where they are on a card, and nowhere else
(`_convolution_double_backward` in aten/src/ATen/native/Convolution.cpp). The formula is written down again here, with
the copies. Its three results are the gradients for the result's gradient, for the weight and for the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Options(NamedTuple):
    """Of a convolution, one number for each dimension."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    is_transposed: bool
    output_padding: Sequence[int]
    groups: int

    def run(self, image: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.aten.convolution(image, weight, None, *self)  # type: ignore[no-any-return]


def double_backward(
    for_image: Tensor | None,
    for_weight: Tensor | None,
    for_bias: Tensor | None,
    gradient: Tensor,
    weight: Tensor,
    image: Tensor,
    *options: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a backward pass, whose results have the gradients `for_image`, `for_weight` and `for_bias`.

    Args:
        for_image: shape (N, C, H, W), or None as the next two.
        for_weight: shape of the weight.
        for_bias: shape (K,).
        gradient: of the convolution's result, (N, K, P, Q).
        weight: the weight.
        image: the image.
        options: those of aten::convolution from `stride` on, and which results are wanted.

    Returns:
        The gradients for `gradient`, `image` and `weight`; None where nothing leads to them.
    """
    convolution = _Options(*options[:6])
    if for_image is not None:
        weight = weight.contiguous()
    if for_weight is not None:
        for_weight = for_weight.contiguous()
    of_gradient = _of_gradient(for_image, for_weight, for_bias, gradient, weight, image, convolution)
    of_weight = None if for_image is None else _of_weight(for_image, gradient, weight, convolution)
    of_image = None if for_weight is None else _of_image(for_weight, gradient, weight, image, convolution)
    return of_gradient, of_image, of_weight


def _of_gradient(
    for_image: Tensor | None,
    for_weight: Tensor | None,
    for_bias: Tensor | None,
    gradient: Tensor,
    weight: Tensor,
    image: Tensor,
    convolution: _Options,
) -> Tensor | None:
    """Of the result's gradient: both products of the one and the other, and the bias."""
    total = None if for_image is None else convolution.run(for_image, weight)
    if for_weight is not None:
        term = convolution.run(image, for_weight)
        total = term if total is None else total + term
        del term
    if for_bias is not None:
        everywhere = for_bias.contiguous().view(1, -1, *(1 for _ in convolution.stride)).expand(gradient.shape)
        total = everywhere if total is None else total + everywhere
    return total


def _of_weight(for_image: Tensor, gradient: Tensor, weight: Tensor, convolution: _Options) -> Tensor:
    """Of the weight: the samples are what is summed over, so that they are channels here."""
    swapped = convolution._replace(
        stride=convolution.dilation, dilation=convolution.stride, is_transposed=False, groups=1
    )
    parts = []
    for images, gradients in zip(
        for_image.transpose(0, 1).chunk(convolution.groups),
        gradient.transpose(0, 1).chunk(convolution.groups),
        strict=True,
    ):
        copied = gradients.contiguous()
        pair = (copied, images) if convolution.is_transposed else (images, copied)
        parts.append(swapped.run(*pair))
        del copied, pair
    result = (parts[0] if convolution.groups == 1 else torch.cat(parts, 1)).transpose(0, 1)
    for dimension in range(2, weight.dim()):
        result = result.narrow(dimension, 0, min(result.shape[dimension], weight.shape[dimension]))
    return result


def _of_image(for_weight: Tensor, gradient: Tensor, weight: Tensor, image: Tensor, convolution: _Options) -> Tensor:
    """Of the image: the other kind of convolution of the result's gradient."""
    other = convolution._replace(is_transposed=not convolution.is_transposed)
    if convolution.is_transposed:
        result = other.run(gradient.contiguous(), for_weight)
        for dimension in range(2, image.dim()):
            result = result.narrow(dimension, 0, min(result.shape[dimension], image.shape[dimension]))
        return result
    reached = [
        (kernel - 1) * dilation - 2 * padding + stride * (length - 1) + 1
        for kernel, dilation, padding, stride, length in zip(
            weight.shape[2:], other.dilation, other.padding, other.stride, gradient.shape[2:], strict=True
        )
    ]
    missing = [length - part for length, part in zip(image.shape[2:], reached, strict=True)]
    return other._replace(output_padding=missing).run(gradient.contiguous(), for_weight)
