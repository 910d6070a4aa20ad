"""What group, batch and layer normalisation take inside their kernels; the virtual card is the oracle.

| operation | allocates, in this order | file in ATen/native/cuda |
|---|---|---|
| native_group_norm | outputs; a contiguous copy of the input; mean and inverse deviation in float32 beside halves; a factor and a term of each channel, where there are weights | group_norm_kernel.cu |
| its backward | contiguous copies; outputs; two sums of each channel, two of each group, one more of each channel where there are weights | the same |
| native_batch_norm of an input that is not contiguous | outputs; staging of its moments; a factor and a term in place of missing weights | Normalization.cu |
| its backward | contiguous copies of gradient and input; outputs; by cuDNN all three, wanted or not | the same, and ATen/native/cudnn/BatchNorm.cpp |
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.reducing import moments

aten = torch.ops.aten

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _of_group_norm(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    source, weight, bias, images, channels, pixels, groups = args[:7]
    if not source.numel():
        return outputs
    sum_bytes = max(source.element_size(), 4)
    sizes = [] if source.is_contiguous() else [_bytes(source)]
    if source.element_size() < 4:
        sizes += [images * groups * sum_bytes] * 2
    if pixels != 1 and (weight is not None or bias is not None):
        sizes += [images * channels * sum_bytes] * 2
    return *outputs, *_nested(sizes)


def _of_group_norm_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, source, _, _, weight, images, channels, pixels, groups, _ = args
    if not source.numel():
        return outputs
    sum_bytes = max(source.element_size(), 4)
    of_channels, of_groups = images * channels * sum_bytes, images * groups * sum_bytes
    copies = [_bytes(each) for each in (gradient, source) if not each.is_contiguous()]
    wants_input = outputs[0] is not None
    takes = [Take(number, size) for number, size in enumerate(copies)]
    back = [Give(take.number) for take in reversed(takes)]
    if pixels == 1:
        return *takes, *outputs, *(_nested([of_groups] * 2, 10) if wants_input else ()), *back
    inside = [Take(10, of_channels), Take(11, of_channels)]
    after = [Give(11), Give(10)]
    if wants_input:
        inside += [Take(12, of_groups), Take(13, of_groups)]
        after = [Give(13), Give(12), *after]
        if weight is not None:
            inside.append(Take(14, of_channels))
            after = [*after[:2], Give(14), *after[2:]]
    return *takes, *outputs, *inside, *after, *back


def _of_layer_norm(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    copy = [] if args[0].is_contiguous() else [_bytes(args[0])]
    takes = _nested(copy)
    return *takes[: len(copy)], *outputs, *takes[len(copy) :]


def _of_layer_norm_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, source = args[:2]
    of_source = _nested([] if source.is_contiguous() else [_bytes(source)], 1)
    of_gradient = _nested([] if gradient.is_contiguous() else [_bytes(gradient)])
    middle = len(of_source) // 2
    return *of_source[:middle], *outputs, *of_gradient, *of_source[middle:]


def _of_batch_norm(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    source, weight, bias = args[:3]
    if source.is_contiguous() or not source.numel() or _is_channels_last(source):
        return outputs
    reduction = moments(source, (0, *range(2, source.dim())), outputs[1])
    scalars = [torch.finfo(source.dtype).bits // 8 if source.element_size() > 4 else 4] * 2
    missing = [size for size, given in zip(scalars, (weight, bias), strict=True) if given is None]
    return *outputs, *([reduction] if args[5] else []), *_nested(missing)


def _of_batch_norm_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, source, weight, *_, is_training, _, _ = args
    if not source.numel():
        return outputs
    if weight is not None and is_training and source.dim() > 2:  # cuDNN's, which gives all three gradients
        sizes = {number: _sums_bytes(source) for number in (1, 2) if outputs[number] is None}
        if source.is_contiguous() and gradient.is_contiguous():
            return *_or_taken(outputs, sizes), *map(Give, sizes)
    if source.dim() == 2 and source.is_contiguous() and source.shape[1] > 1:  # a row of numbers has channels last
        sums = _nested([_sums_bytes(source)] * 2)
        return *sums[:2], *outputs[1:], outputs[0], *sums[2:]
    if _is_channels_last(source):
        return outputs
    copies = [_bytes(each) for each in (gradient, source) if not _is_read_as_it_is(each)]
    takes = [Take(number, size) for number, size in enumerate(copies)]
    return *takes, *outputs, *(Give(take.number) for take in reversed(takes))


def _or_taken(outputs: Sequence[Any], sizes: Mapping[int, int]) -> list[Any]:
    """The outputs, and what stands in for those that nobody wants."""
    return [Take(number, sizes[number]) if number in sizes else output for number, output in enumerate(outputs)]


def _sums_bytes(source: Tensor) -> int:
    """Of a sum for each channel."""
    return int(source.shape[1]) * max(source.element_size(), 4)


def _is_read_as_it_is(tensor: Tensor) -> bool:
    """Whether the kernel reads it by its strides: contiguous, or one number over and over."""
    return tensor.is_contiguous() or not any(tensor.stride())


def _is_channels_last(tensor: Tensor) -> bool:
    layout = _LAST.get(tensor.dim())
    return layout is not None and tensor.is_contiguous(memory_format=layout)


def _nested(sizes: Sequence[int], first: int = 0) -> list[Any]:
    """Allocations one after the other, freed as brackets close."""
    takes = [Take(first + number, size) for number, size in enumerate(sizes)]
    return [*takes, *(Give(take.number) for take in reversed(takes))]


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


RULES = {
    aten.native_layer_norm.default: _of_layer_norm,
    aten.native_layer_norm_backward.default: _of_layer_norm_backward,
    aten.native_group_norm.default: _of_group_norm,
    aten.native_group_norm_backward.default: _of_group_norm_backward,
    aten.native_batch_norm.default: _of_batch_norm,
    aten.native_batch_norm_backward.default: _of_batch_norm_backward,
}
