"""What group, batch and layer normalisation take inside their kernels; the virtual card is the oracle.

| operation | allocates, in this order | file in ATen/native/cuda |
|---|---|---|
| native_group_norm | outputs; a contiguous copy of the input; mean and inverse deviation in float32 beside halves; a factor and a term of each channel, where there are weights | group_norm_kernel.cu |
| its backward | contiguous copies; outputs; two sums of each channel, two of each group, one more of each channel where there are weights | the same |
| native_batch_norm of an input that is not contiguous | outputs; staging of its moments; a factor and a term in place of missing weights | Normalization.cu |
| its backward by cuDNN | a copy of a gradient that lies otherwise; all three outputs, wanted or not; a workspace, as forward | cudnn/BatchNorm.cpp |
| its backward | copies of gradient and input where no view of them has rows of channels; outputs; of channels last two sums of each channel first, and outputs in another order | Normalization.cu |
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.normalisation import Normalisation
from bench.memory.recording.composites import Give, Kept, Take
from bench.memory.recording.layouts import suggested
from bench.memory.recording.reducing import moments

aten = torch.ops.aten


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
    source, weight, bias, _, _, is_training = args[:6]
    is_of_cudnn = uses_cudnn(source, weight, bias)
    if is_of_cudnn and not is_training:  # which keeps nothing for a backward pass
        return outputs[0], *(Kept(output, 0) for output in outputs[1:])
    if is_of_cudnn:
        return *outputs, *_workspace(source, True)
    if not source.numel() or _is_dense(source):
        return outputs
    scalars = [max(source.element_size(), 4)] * 2
    missing = [size for size, given in zip(scalars, (weight, bias), strict=True) if given is None]
    if not is_training:
        return *outputs, *_nested(missing)
    reduction = moments(source, (0, *range(2, source.dim())), outputs[1])
    widened = [source.numel() * 4] if source.dtype is torch.bfloat16 else []  # the reduction's kernel reads no bfloat16
    take, give = _nested(widened, 10)[:1], _nested(widened, 10)[1:]
    return *outputs, *take, reduction, *give, *_nested(missing)


def uses_cudnn(source: Tensor, weight: Tensor | None, *bias: Tensor | None) -> bool:
    """Whether cuDNN normalises a batch, in training with its gradients (_select_batch_norm_backend).

    The backward pass is not told whether there was a bias: it is taken to be one where there is a weight.
    """
    if weight is None or any(each is None for each in bias) or source.dim() < 3 or not source.numel():
        return False
    return source.dtype in (torch.float32, torch.float64) or (source.dtype, weight.dtype) == (torch.half, torch.float32)


def _of_batch_norm_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, source, weight, *_, is_training, _, _ = args
    if is_training and uses_cudnn(source, weight):  # which gives all three gradients
        layout = suggested(source)
        copy = [] if gradient.is_contiguous(memory_format=layout) else [_bytes(gradient)]
        of_each = _bytes(source), _sums_bytes(source), _sums_bytes(source)
        sizes = {number: of_each[number] for number, output in enumerate(outputs) if output is None}
        takes = _nested(copy, 10)
        inside = *_or_taken(outputs, sizes), *_workspace(source, False), *map(Give, sizes)
        return *takes[: len(copy)], *inside, *takes[len(copy) :]
    wants_sums = is_training or outputs[1] is not None or outputs[2] is not None
    if outputs[0] is not None and wants_sums and not _has_channels_last(source):
        copies = [_bytes(each) for each in (gradient, source) if not _has_rows_of_channels(each)]
        takes = [Take(number, size) for number, size in enumerate(copies)]
        return *takes, *outputs, *(Give(take.number) for take in reversed(takes))
    deviations = _nested([_sums_bytes(source)] if uses_cudnn(source, weight) else [], 30)
    is_last = _has_channels_last(source) and _has_channels_last(gradient)
    gives_all = wants_sums and is_last and weight is not None
    unwanted = [number for number in (1, 2) if gives_all and outputs[number] is None]
    sizes = {number: weight.shape[0] * weight.element_size() for number in unwanted}
    sums = _nested([_sums_bytes(source)] * 2 if wants_sums and (is_last or outputs[0] is not None) else [], 10)
    needs_scalar = weight is None and is_training and not (is_last and _is_dense(source))
    scalar = _nested([max(source.element_size(), 4)] if needs_scalar else [], 20)
    half, end = len(sums) // 2, len(scalar) // 2
    wanted = _or_taken(outputs, sizes)[1:]
    inside = *wanted, *scalar[:end], outputs[0], *scalar[end:], *map(Give, sizes)
    return *deviations[:1], *sums[:half], *inside, *sums[half:], *deviations[1:]


def _workspace(source: Tensor, is_forward: bool) -> list[Normalisation]:
    """What cuDNN takes where channels lie last."""
    if suggested(source) is torch.contiguous_format or source.dtype is torch.float64:
        return []
    channels = source.shape[1]
    return [Normalisation(source.numel() // channels, channels, is_forward, source.dtype is torch.half)]


def _or_taken(outputs: Sequence[Any], sizes: Mapping[int, int]) -> list[Any]:
    """The outputs, and what stands in for those that nobody wants."""
    return [Take(number, sizes[number]) if number in sizes else output for number, output in enumerate(outputs)]


def _sums_bytes(source: Tensor) -> int:
    """Of a sum for each channel."""
    return int(source.shape[1]) * max(source.element_size(), 4)


def _has_rows_of_channels(tensor: Tensor) -> bool:
    """Whether the kernel reads it where it is: as a view of images, channels and pixels."""
    try:
        tensor.view(*tensor.shape[:2], -1)
    except RuntimeError:
        return False
    return True


def _has_channels_last(tensor: Tensor) -> bool:
    """Whether kernels for channels last read it; a row of numbers has its channels last too."""
    return suggested(tensor) is not torch.contiguous_format or (tensor.is_contiguous() and tensor.stride(1) == 1)


def _is_dense(tensor: Tensor) -> bool:
    """Whether there are kernels for this layout: channels last of volumes has none."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


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
