"""What PyTorch asks of values before or after it computes, on a card: whether they are in range, whether it failed.

Tensors without data are not asked, so that the numbers which the answers take would be missing. Each is asked here,
and the answer is taken for the good one (BatchLinearAlgebra.cpp, DistributionTemplates.h and Distributions.cpp of
ATen/native).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from bench.memory.recording.on_cuda import is_on_cuda
from bench.memory.recording.values import AssumedValue

aten = torch.ops.aten


@contextlib.contextmanager
def inspected() -> Iterator[None]:
    """Within this context values without data are asked for as on a card."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_linalg_check_errors", _check_factors, "AutogradMeta")
    library.impl("multinomial", _multinomial, "AutogradMeta")
    library.impl("bincount", _bincount, "AutogradMeta")
    library.impl("fake_quantize_per_channel_affine", _as_integers, "AutogradMeta")
    for overload in ("float_Tensor", "Tensor_Tensor"):
        library.impl(f"normal.{overload}", _normal(getattr(aten.normal, overload)), "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


def _read(answer: Tensor) -> Any:
    """What the host reads, where the program is one on a card."""
    if not is_on_cuda():
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumedValue)
        return answer.item()


def _check_factors(failed: Tensor, name: str, *, is_matrix: bool) -> None:
    _read(failed.any())


def _normal(operation: Any) -> Callable[..., Tensor]:
    """Deviations are asked for twice, by the function and by the one that it calls."""

    def draw(mean: float | Tensor, deviation: Tensor, **options: Any) -> Tensor:
        _read(deviation.min() >= 0)
        with torch._C._AutoDispatchBelowAutograd():
            drawn: Tensor = operation(mean, deviation, **options)
        _read(deviation.min() >= 0)
        return drawn

    return draw


def _multinomial(chances: Tensor, number: int, replacement: bool = False, **options: Any) -> Tensor:
    """Drawn by the largest of chances over exponentials; the questions are asked on the card alone."""
    with torch._C._AutoDispatchBelowAutograd():
        if replacement and number > 1:
            several: Tensor = aten.multinomial.default(chances, number, replacement, **options)
            return several
        drawn = chances.new_empty((*chances.shape[:-1], number), dtype=torch.int64)
        largest, least = chances.max(), chances.min()
        are_finite = (largest < math.inf) & (least >= 0)
        sums = chances.sum(-1)
        is_nothing = sums == 0
        if chances.dim() > 1:
            is_nothing = is_nothing.any()
        del sums
        is_nothing.logical_not()
        scores = torch.empty_like(chances).exponential_()
        if number == 1:
            torch.argmax(scores, -1, keepdim=True, out=drawn)
        else:
            torch.topk(scores, number, out=(chances.new_empty(drawn.shape), drawn))
        del are_finite
    return drawn


def _as_integers(values: Tensor, scale: Tensor, zero: Tensor, *options: Any) -> Tensor:
    """Whether each channel's zero is among its integers is read (quantized/FakeQuantPerChannelAffine.cpp)."""
    least, most = zero.min(), zero.max()
    _read(least)
    _read(most)
    del least, most
    operation = aten.fake_quantize_per_channel_affine.default
    rounded: Tensor = operation._op_dk(DispatchKey.CompositeImplicitAutograd, values, scale, zero, *options)
    return rounded


def _bincount(numbers: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """As many counts as the largest says, which is read, as is the smallest (cuda/SummaryOps.cu)."""
    of_weights = torch.float64 if weights is None or weights.dtype is not torch.float32 else torch.float32
    dtype = torch.int64 if weights is None else of_weights
    if not numbers.numel():
        return numbers.new_zeros(minlength, dtype=dtype)
    numbers = numbers.contiguous()
    least, most = numbers.min(), numbers.max()
    _read(least)
    return numbers.new_empty(max(minlength, _read(most) + 1), dtype=dtype)  # what is counted is not known
