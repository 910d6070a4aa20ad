"""Kernels that cards have and tensors without data have not: without them the step would be refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_IN_PLACE = ("_fused_sgd_", "_fused_adagrad_")
_LIKE_THE_FIRST = ("_standard_gamma_grad", "_dirichlet_grad", "_sample_dirichlet", "binomial")
_LIKE_THE_SECOND = ("multi_margin_loss_backward", "multilabel_margin_loss_backward")
_WITH_A_MASK = (
    *("fake_quantize_per_tensor_affine_cachemask", "fake_quantize_per_channel_affine_cachemask"),
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)


@contextlib.contextmanager
def nothing_missing() -> Iterator[None]:
    """Within this context these operations take tensors without data."""
    library = torch.library.Library("aten", "IMPL")
    for name in _IN_PLACE:
        for overload in ("", ".tensor_lr"):
            library.impl(name + overload, _nothing, "Meta")
    for place, names in enumerate((_LIKE_THE_FIRST, _LIKE_THE_SECOND)):
        for name in names:
            library.impl(name, _like(place), "Meta")
    for name in _WITH_A_MASK:
        library.impl(name, _and_a_mask, "Meta")
    library.impl("_grouped_mm", _grouped_mm, "Meta", allow_override=True)
    try:
        yield
    finally:
        library._destroy()


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Everything is written in place."""


def _like(place: int) -> Any:
    return lambda *args, **kwargs: torch.empty_like(args[place])


def _grouped_mm(
    one: Tensor,
    other: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Products of groups of rows with a matrix each; cards have them of every type, their rows begin at 16 bytes.

    Where both have two dimensions, groups are of columns of the first and rows of the other.
    """
    for each in (one, other):
        if 1 not in each.stride()[-2:]:
            raise RuntimeError(f"Invalid strides/sizes, got {each.stride()} for strides and {each.shape} for sizes.")
    groups = (
        [] if one.dim() != other.dim() else [one.size(0)] if one.dim() == 3 else [0 if offs is None else offs.size(0)]
    )
    dtype = out_dtype or one.dtype
    columns = other.size(-1)
    row = -(-columns * dtype.itemsize // 16) * 16 // dtype.itemsize
    rows = one.size(-2)
    return one.new_empty_strided((*groups, rows, columns), (*(rows * row for _ in groups), row, 1), dtype=dtype)


def _and_a_mask(values: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), torch.empty_like(values, dtype=torch.bool)
