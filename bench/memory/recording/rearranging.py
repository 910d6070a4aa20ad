"""What operations that move, draw or combine numbers take beside their results; the virtual card is the oracle.

| operation | beside its result | ATen/native/ |
|---|---|---|
| roll | a copy of what lies scattered; a result for each dimension but the last | cuda/TensorTransformations.cu |
| randperm | a number; all numbers in order, keys twice, a sort's storage | cuda/Randperm.cu |
| a number to the power of a tensor | the number, on the card | Pow.cpp |
| normal, of a tensor and a number | as much as the result | DistributionTemplates.h |
| scatter_reduce to means | ones, counts, where they are 0 | cuda/TensorAdvancedIndexing.cpp |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.device_sorting import radix_sort_bytes

aten = torch.ops.aten

_NUMBER_BYTES = 8
_BITS_OF_SHORT_KEYS = 32


def _of_roll(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    source, _, dims = args
    (output,) = outputs
    size_bytes = output.numel() * output.element_size()
    results = [Take(number, size_bytes) for number in range(1, len(dims))]
    copy = [] if source.is_contiguous() else [Take(0, size_bytes)]
    first, others = [*results, output][:1], [*results, output][1:]
    return *copy, *first, *(Give(take.number) for take in copy), *others, *(Give(each.number) for each in results[::-1])


def _of_randperm(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Keys of so many bits that two are seldom the same: with a chance of nine in ten none are."""
    (output,) = outputs
    count, size_bytes = args[0], output.element_size()
    number = Take(0, size_bytes), Give(0)
    if not count:
        return output, *number
    bits = math.ceil(math.log2(count - (6 * count**2 + 1) / (12 * math.log(0.9))))
    key_bytes = 4 if bits <= _BITS_OF_SHORT_KEYS else 8
    storage = radix_sort_bytes(count, key_bytes, size_bytes, min(bits, 64))
    takes = Take(1, count * size_bytes), Take(2, count * key_bytes), Take(3, count * key_bytes), Take(4, storage)
    return output, *number, *takes, *(Give(each.number) for each in reversed(takes))


def _of_power(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    return outputs if args[0] == 1 else (*outputs, Take(0, _NUMBER_BYTES), Give(0))


def _of_scatter_reduce(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    (output,) = outputs
    source, how = args[3:5]
    if how != "mean":
        return outputs
    ones, counts = Take(0, source.numel() * source.element_size()), Take(1, output.numel() * output.element_size())
    return output, ones, counts, Take(2, output.numel()), Give(2), Give(1), Give(0)


def _with_one_more(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    (output,) = outputs
    return output, Take(0, output.numel() * output.element_size()), Give(0)


RULES = {
    aten.normal.Tensor_float: _with_one_more,
    aten.roll.default: _of_roll,
    aten.randperm.default: _of_randperm,
    aten.randperm.generator: _of_randperm,
    aten.pow.Scalar: _of_power,
    aten.scatter_reduce.two: _of_scatter_reduce,
}
