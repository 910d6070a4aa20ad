"""Lists that kernels of many matrices or tensors take: pointers, or parts of sums; the virtual card is the oracle.

cuSOLVER and cuBLAS are given a pointer to each matrix of a batch, in a list on the card (ATen/native/cuda/linalg).
Norms of lists of tensors are summed by chunks first (ATen/native/cuda/ForeachReduceOp.cu).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.reducing import norm
from bench.memory.simulated import installed_release

aten = torch.ops.aten

_POINTER_BYTES = 8
_CHUNK = 65536  # numbers of a tensor that one block sums
_FAST_NORMS = (1, 2, math.inf)
_COUNTS_SINCE = (2, 13)  # by order 0: how many numbers are not 0
_PACKED_SINCE = (2, 15)  # parts of sums lie without gaps; where those of each tensor begin is brought to the card
_FEW_MATRICES, _LARGE = 8, 64


def _with_pointers(*lists: int, least: int = 2) -> Callable[[Sequence[Any], Sequence[Tensor]], Sequence[Any]]:
    """A rule: outputs, then for each call that the operation makes of the library so many lists of pointers.

    They are taken for `least` matrices or more.
    """

    def rule(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
        matrices = math.prod(outputs[0].shape[:-2])
        if matrices < least:
            return outputs
        items: list[Any] = []
        for call, number_of_lists in enumerate(lists):
            takes = [Take(10 * call + number, _POINTER_BYTES * matrices) for number in range(number_of_lists)]
            items += [*takes, *(Give(take.number) for take in reversed(takes))]
        return *outputs, *items

    return rule


def _of_cholesky_solve(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Of one matrix cuSOLVER takes a copy, and says how it went in a number."""
    factor = args[1]
    if math.prod(factor.shape[:-2]) != 1:
        return _TWO_SOLVES(args, outputs)
    return *outputs, Take(0, 4), Take(1, factor.numel() * factor.element_size()), Give(1), Give(0)


def _of_foreach_norm(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    tensors, order = args[:2]
    is_fast = order in _FAST_NORMS or (order == 0 and installed_release() >= _COUNTS_SINCE)
    if not (is_fast and all(map(_is_dense, tensors))):  # one after the other
        return [each for pair in zip(outputs, map(norm, tensors, outputs), strict=True) for each in pair]
    begins, ends = _beginnings(tensors)
    return *begins, Take(0, _parts(tensors) * max(tensors[0].element_size(), 4)), *outputs, Give(0), *ends


def _of_foreach_max(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    begins, ends = _beginnings(args[0])
    return *begins, *outputs, Take(0, _parts(args[0]) * args[0][0].element_size()), Give(0), *ends


def _beginnings(tensors: Sequence[Tensor]) -> tuple[list[Take], list[Give]]:
    """Where the partial results of each tensor begin, and where all end."""
    if installed_release() < _PACKED_SINCE:
        return [], []
    return [Take(1, 8 * (len(tensors) + 1))], [Give(1)]


def _parts(tensors: Sequence[Tensor]) -> int:
    """Places for partial results: for each tensor as many as it has chunks, before 2.15 as the largest has."""
    chunks = [-(-tensor.numel() // _CHUNK) for tensor in tensors]
    return len(chunks) * max(chunks) if installed_release() < _PACKED_SINCE else sum(chunks)


def _is_dense(tensor: Tensor) -> bool:
    return bool(aten.is_non_overlapping_and_dense(tensor))


def _of_triangular_solve(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Few large matrices are solved one after the other (`triangular_solve_kernel`)."""
    matrices = math.prod(outputs[0].shape[:-2])
    is_looped = matrices <= _FEW_MATRICES and args[0].shape[-1] >= _LARGE
    return outputs if is_looped else _ONE_SOLVE(args, outputs)


_ONE_SOLVE = _with_pointers(2, least=1)
_TWO_SOLVES = _with_pointers(2, 2, least=1)

RULES = {
    aten.linalg_cholesky_ex.default: _with_pointers(1),
    aten.linalg_solve_triangular.default: _of_triangular_solve,
    aten.cholesky_solve.default: _of_cholesky_solve,
    aten._foreach_norm.Scalar: _of_foreach_norm,
    aten._foreach_max.default: _of_foreach_max,
}
