"""How the results of operations lie on a card, where PyTorch's formulas for tensors without data say otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.routing import is_channels_last

aten = torch.ops.aten

_ARITHMETIC = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor}
_CONTIGUOUS = {
    aten.native_group_norm.default,
    aten.native_group_norm_backward.default,
    aten.pixel_unshuffle.default,
    aten._log_softmax_backward_data.default,
}
_CONVOLUTIONS = {aten.convolution.default, aten.convolution_backward.default}
_LOWER = (torch.float16, torch.bfloat16)
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def called(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of a kernel; a buffer that a card does not use has nothing in it, and layouts are a card's."""
    if func in _CONTIGUOUS:
        args = [value.contiguous() if isinstance(value, Tensor) else value for value in args]
    result = func(*args, **kwargs)
    if func is aten.log_sigmoid_forward.default:
        return result[0], result[1].new_empty(0)
    if func is aten.native_batch_norm_backward.default:
        wants_image = args[9][0]  # which PyTorch's formula gives in any case
        return empty(result[0], suggested(args[1])) if wants_image else None, *result[1:]
    if func in _CONVOLUTIONS:
        return _of_convolution(func, args, result)
    return _laid_out(func, args, kwargs, result) if func in _ARITHMETIC else result


def _laid_out(func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
    """The result of arithmetic in the layout that a kernel gives it.

    Without data, PyTorch converts arguments of a lower precision first, and loses how one lies that is expanded.
    """
    if not any(isinstance(value, Tensor) and value.dtype in _LOWER for value in args):
        return result
    full = [
        torch.empty_strided(value.shape, value.stride(), device=value.device)
        if isinstance(value, Tensor) and value.dtype in _LOWER
        else value
        for value in args
    ]
    return torch.empty_strided(result.shape, func(*full, **kwargs).stride(), dtype=result.dtype, device=result.device)


def _of_convolution(op: Any, args: Sequence[Any], result: Any) -> Any:
    """The results of a convolution, or of its backward pass; what is copied before is in convolving.py."""
    if op is aten.convolution.default:
        image, weight = map(without_data, args[:2])
        return empty(result, layout_of(image, weight))
    gradient, image, weight = map(without_data, args[:3])
    if result[1] is not None:
        image = image.contiguous(memory_format=layout_of(image, weight))
    gradient = gradient.contiguous(memory_format=layout_of(image, image))
    layouts = layout_of(gradient, weight), layout_of(image, gradient)
    laid = [each if each is None else empty(each, how) for each, how in zip(result[:2], layouts, strict=True)]
    return *laid, *result[2:]


def layout_of(one: Tensor, other: Tensor) -> torch.memory_format:
    """How cuDNN wants two tensors, and lays out what it makes of them (cudnn_conv_suggest_memory_format)."""
    if torch.float64 in (one.dtype, other.dtype):
        return torch.contiguous_format
    formats = suggested(one), suggested(other)
    return formats[0] if formats[1] is torch.contiguous_format else formats[1]


def suggested(tensor: Tensor) -> torch.memory_format:
    """Channels last if the tensor lies so, else contiguous (Tensor::suggest_memory_format)."""
    is_last = tensor.dim() in _LAST and is_channels_last(tuple(tensor.shape), tensor.stride())
    return _LAST[tensor.dim()] if is_last else torch.contiguous_format


def without_data(tensor: Tensor) -> Tensor:
    """The same metadata, in a storage of its own."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def empty(like: Tensor, layout: torch.memory_format) -> Tensor:
    """A tensor of the same shape and type in a layout."""
    return torch.empty(like.shape, dtype=like.dtype, device=like.device, memory_format=layout)
