"""What PyTorch asks of values before or after it computes, on a card: whether they are in range, whether it failed.

Tensors without data are not asked, so that the numbers which the answers take would be missing. Each is asked here,
and the answer is taken for the good one (BatchLinearAlgebra.cpp, DistributionTemplates.h and Distributions.cpp of
ATen/native).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from bench.memory.recording.on_cuda import is_on_cuda
from bench.memory.recording.values import AssumedValue
from bench.memory.simulated import installed_release

aten = torch.ops.aten

_ASKED_ON_THE_CARD_SINCE = (2, 14)  # whether deviations of torch.normal are below 0


@contextlib.contextmanager
def inspected() -> Iterator[None]:
    """Within this context values without data are asked for as on a card."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_linalg_check_errors", _check_factors, "AutogradMeta")
    library.impl("multinomial", _multinomial, "AutogradMeta")
    library.impl("bincount", _bincount, "AutogradMeta")
    library.impl("fake_quantize_per_channel_affine", _as_integers, "AutogradMeta")
    library.impl("normal.float_Tensor", _normal_of_a_number, "AutogradMeta")
    library.impl("normal.Tensor_Tensor", _normal_of_tensors, "AutogradMeta")
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


def _ask_of_deviations(deviation: Tensor) -> None:
    """Whether they are below 0: the host reads it, or since 2.14 the card alone."""
    if deviation.numel():
        are_right = deviation.min() >= 0
        if installed_release() < _ASKED_ON_THE_CARD_SINCE:
            _read(are_right)


def _normal_of_tensors(mean: Tensor, deviation: Tensor, **options: Any) -> Tensor:
    """Deviations are asked for twice, by the function and by the one that it calls."""
    _ask_of_deviations(deviation)
    with torch._C._AutoDispatchBelowAutograd():
        drawn: Tensor = aten.normal.Tensor_Tensor(mean, deviation, **options)
    _ask_of_deviations(deviation)
    return drawn


def _normal_of_a_number(mean: float, deviation: Tensor, **options: Any) -> Tensor:
    """The same, and then the mean is copied to the card."""
    _ask_of_deviations(deviation)
    with torch._C._AutoDispatchBelowAutograd():
        drawn = torch.empty_like(deviation, memory_format=torch.contiguous_format)
    _ask_of_deviations(deviation)
    deviation.new_empty(())
    return drawn


def _multinomial(chances: Tensor, number: int, replacement: bool = False, **options: Any) -> Tensor:
    """Drawn by the largest of chances over exponentials; the questions are asked on the card alone.

    Several that may be the same: by their places among sums of the chances before each.
    """
    with torch._C._AutoDispatchBelowAutograd():
        drawn = chances.new_empty((*chances.shape[:-1], number), dtype=torch.int64)
        if replacement and number > 1:
            chances, scaled = (torch.empty_like(chances, memory_format=torch.contiguous_format) for _ in range(2))
            scaled.cumsum(-1)
            return drawn
        least, largest = chances.aminmax()
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
    if not zero.is_floating_point():
        least, most = zero.min(), zero.max()
        _read(least)
        _read(most)
        del least, most
    operation = aten.fake_quantize_per_channel_affine.default
    rounded: Tensor = operation._op_dk(DispatchKey.CompositeImplicitAutograd, values, scale, zero, *options)
    return rounded


def _bincount(numbers: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """As many counts as the largest says, which is read, as is the smallest (cuda/SummaryOps.cu)."""
    if not numbers.numel():
        return numbers.new_zeros(minlength, dtype=torch.int64)
    if weights is not None and weights.dtype is not torch.float32:
        weights = weights.to(torch.float64)
    least, most = numbers.aminmax()
    _read(least)
    dtype = torch.int64 if weights is None else weights.dtype
    return numbers.new_empty(max(minlength, _read(most) + 1), dtype=dtype)  # what is counted is not known
