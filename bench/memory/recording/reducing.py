"""Which operations reduce on a card, and how: the kernels that share a result between thread blocks.

Each calls `gpu_reduce_kernel` of PyTorch's Reduce.cuh with types of its own: what it reads, what a thread sums in, and
how many numbers it reads at once. In aten/src/ATen/native/cuda:

| operations | a thread sums in | file |
|---|---|---|
| sum, nansum, prod | float32 for halves, else the type itself | ReduceSumProdKernel.cu |
| mean | the same | ReduceMomentKernel.cu |
| linalg_vector_norm | the same, of complex numbers the real type | ReduceNormKernel.cu |
| amax, amin, max and min of everything | the type itself | ReduceMaxValuesKernel.cu |
| aminmax | two of the type | ReduceAMinMaxKernel.cu |
| max and min along a dimension | a number and its place, 16 bytes | TensorCompare.cu |
| argmax, argmin | the same | ReduceArgMaxKernel.cu |
| var, std, var_mean, std_mean | two moments, two counts: 16 bytes, of float64 32; by twos | ReduceMomentKernel.cu |
| all, any; _is_any_true, as anomaly detection asks | a boolean | ReduceLogicKernel.cu |

What a call takes is in bench.memory.reductions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.reductions import Reduction

aten = torch.ops.aten

_HALVES = (torch.float16, torch.bfloat16)


class _Kernel(NamedTuple):
    """How an operation reduces.

    `dims` is the place of the dimensions among its arguments, None where it reduces all. `partial` gives the bytes of
    what a thread sums in from the type of what it reads. `casts` tells whether the input is first brought to the
    result's type; `lays_out` is how it is laid out first where all is reduced.
    """

    dims: int | None
    partial: Callable[[torch.dtype], int]
    vector: int = 4
    casts: bool = False
    lays_out: Callable[[Tensor], Tensor] | None = None
    keeps_in_result: bool = True


def _summed(dtype: torch.dtype) -> int:
    return 4 if dtype in _HALVES else dtype.itemsize


def _real(dtype: torch.dtype) -> int:
    return dtype.itemsize // 2 if dtype.is_complex else _summed(dtype)


def _itself(dtype: torch.dtype) -> int:
    return dtype.itemsize


def _twice(dtype: torch.dtype) -> int:
    return 2 * dtype.itemsize


def _placed(dtype: torch.dtype) -> int:
    return 16


def _moments(dtype: torch.dtype) -> int:
    return 32 if dtype is torch.float64 else 16


def _boolean(dtype: torch.dtype) -> int:
    return 1


def _flattened(source: Tensor) -> Tensor:
    return source.reshape(-1)


_SUM = _Kernel(None, _summed, casts=True)
_LARGEST = _Kernel(None, _itself, lays_out=Tensor.contiguous)
_PLACED = _Kernel(None, _placed, keeps_in_result=False)
_MOMENTS = _Kernel(None, _moments, vector=2, keeps_in_result=False)
_BOOLEAN = _Kernel(None, _boolean)
_NORM = _Kernel(2, _real, casts=True)

_KERNELS = {
    aten.sum.default: _SUM,
    aten.sum.dim_IntList: _SUM._replace(dims=1),
    aten.nansum.default: _SUM._replace(dims=1),
    aten.mean.default: _SUM,
    aten.mean.dim: _SUM._replace(dims=1),
    aten.prod.default: _SUM,
    aten.prod.dim_int: _SUM._replace(dims=1),
    aten.linalg_vector_norm.default: _NORM,
    aten.amax.default: _Kernel(1, _itself),
    aten.amin.default: _Kernel(1, _itself),
    aten.max.default: _LARGEST,
    aten.min.default: _LARGEST,
    aten.aminmax.default: _Kernel(1, _twice, lays_out=Tensor.contiguous, keeps_in_result=False),
    aten.max.dim: _PLACED._replace(dims=1),
    aten.min.dim: _PLACED._replace(dims=1),
    aten.argmax.default: _PLACED._replace(dims=1, lays_out=_flattened),
    aten.argmax.out: _PLACED._replace(dims=1, lays_out=_flattened),
    aten.argmin.default: _PLACED._replace(dims=1, lays_out=_flattened),
    aten.var.correction: _MOMENTS._replace(dims=1),
    aten.std.correction: _MOMENTS._replace(dims=1),
    aten.var_mean.correction: _MOMENTS._replace(dims=1),
    aten.std_mean.correction: _MOMENTS._replace(dims=1),
    aten.all.default: _BOOLEAN,
    aten.any.default: _BOOLEAN,
    aten.all.dim: _BOOLEAN._replace(dims=1),
    aten.any.dim: _BOOLEAN._replace(dims=1),
    aten.all.dims: _BOOLEAN._replace(dims=1),
    aten.any.dims: _BOOLEAN._replace(dims=1),
    aten._is_all_true.default: _BOOLEAN,
    aten._is_any_true.default: _BOOLEAN,
}
REDUCTIONS = frozenset(_KERNELS)


class Reduced(NamedTuple):
    """A call that reduces: the bytes of a copy of its input that it makes first, 0 where none; and the reduction."""

    copy_bytes: int
    reduction: Reduction


def reduced(op: Any, args: Sequence[Any], result: Tensor) -> Reduced:
    """How an operation of REDUCTIONS reduces its first argument."""
    kernel = _KERNELS[op]
    given: Tensor = args[0]
    dims = None if kernel.dims is None else args[kernel.dims]
    source = given
    if kernel.casts:
        source = source.to(_read_as(source.dtype, result.dtype))
    if dims is None and kernel.lays_out:
        source = kernel.lays_out(source)
    is_copied = source.untyped_storage()._cdata != given.untyped_storage()._cdata
    copy_bytes = source.numel() * source.element_size() if is_copied else 0
    return Reduced(copy_bytes, _reduction(kernel, source, _reduces(dims, source.dim()), result))


def whole(source: Tensor, result: Tensor) -> Reduction:
    """The sum, or mean, of all elements of a tensor of the result's type."""
    return _reduction(_SUM, source, (True,) * source.dim(), result)


def summed(source: Tensor, dims: Sequence[int], result: Tensor) -> Reduction:
    """The sum over some dimensions of a tensor of the result's type."""
    return _reduction(_SUM, source, _reduces(dims, source.dim()), result)


def of_dims(packet: Any, source: Tensor, dims: Any, result: Tensor) -> Reduction:
    """How `aten.sum` or `aten.amax` reduces some dimensions of a tensor of the result's type."""
    kernel = _KERNELS[packet.dim_IntList if packet is aten.sum else packet.default]
    return _reduction(kernel, source, _reduces(dims, source.dim()), result)


def norm(source: Tensor, result: Tensor) -> Reduction:
    """The norm of all elements of a tensor."""
    return _reduction(_NORM, source, (True,) * source.dim(), result)


def moments(source: Tensor, dims: Sequence[int], result: Tensor) -> Reduction:
    """Mean and variance over some dimensions of a tensor of the results' type."""
    return _reduction(_MOMENTS, source, _reduces(dims, source.dim()), result)


def _reduction(kernel: _Kernel, source: Tensor, where: tuple[bool, ...], result: Tensor) -> Reduction:
    dtype = source.dtype
    return Reduction(
        tuple(source.shape),
        tuple(source.stride()),
        where,
        int(source.storage_offset()),
        dtype.itemsize,
        result.dtype.itemsize,
        kernel.partial(dtype),
        kernel.vector,
        256 if dtype is torch.complex128 else 512,
        kernel.keeps_in_result and not (dtype in _HALVES and result.dtype is dtype),
    )


def _read_as(dtype: torch.dtype, result: torch.dtype) -> torch.dtype:
    """The type that a sum reads: its result's, complex where a norm's is not, but halves that are summed in float32."""
    if dtype in _HALVES and result is torch.float32:
        return dtype
    return result.to_complex() if dtype.is_complex else result


def _reduces(dims: Any, rank: int) -> tuple[bool, ...]:
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return (True,) * rank
    chosen = {dim % max(rank, 1) for dim in ([dims] if isinstance(dims, int) else dims)}
    return tuple(place in chosen for place in range(rank))
