"""Elements that are selected or repeated by value, so that results are as large as values say.

How many nonzero, x[mask] and masked_select give follows from a mask that is known (values.py). Of any other it is taken
to be all of them, the most that there can be, and said; that repeat_interleave repeats each once, where its counts are
not known. On a card each mask becomes the places where it holds (ATen/native/cuda/Nonzero.cu): they
are counted, then written; x[mask] reads at these places, and so does its gradient.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Output, Take
from bench.memory.recording.device_sorting import counting_bytes, flagging_bytes
from bench.memory.recording.kernels import Plan
from bench.memory.recording.values import AssumedValue, Values, place

aten = torch.ops.aten

COUNT_BYTES = 4  # of the number of places, which the host reads

_MASKS = (torch.bool, torch.uint8)
_BY_VALUE = {aten.nonzero.default, aten.masked_select.default, aten.repeat_interleave.Tensor}
_INDEXES = {
    *(aten.index.Tensor, aten._unsafe_index.Tensor),
    *(aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default),
}


class Selected(NamedTuple):
    """A mask's places, and what a card allocates to find them: itself among it."""

    places: Tensor
    plan: Plan


class Instead(NamedTuple):
    """The call that a card carries out in place of one that selects."""

    func: Any
    args: Sequence[Any]


def selects(func: Any, args: Sequence[Any]) -> bool:
    """Whether the size of what a call gives, or reads, depends on values."""
    if func in _BY_VALUE:
        return bool(args[0].is_meta)
    return func in _INDEXES and any(_is_mask(each) for each in args[1]) and not _fills(func, args)


def places_of(mask: Tensor, values: Values) -> Selected:
    """Where a tensor is not 0: [count, dimensions], laid out as on a card."""
    known = values.of(mask)
    if known is None:
        count = mask.numel()
        what = "of elements that the step selects by value, all are taken"
        warnings.warn(AssumedValue(what, place()), stacklevel=2)
    else:
        count = int(known.count_nonzero())
    values.note(COUNT_BYTES, count.to_bytes(COUNT_BYTES, "little"))
    made = torch.empty_strided((count, mask.dim()), (1, count), dtype=torch.int64, device=mask.device)
    found = None if known is None else known.nonzero()
    values.tell(made, found)
    copy = [] if mask.is_contiguous() else [Take(3, mask.numel() * mask.element_size())]
    counts = Take(0, 4), Take(1, counting_bytes(mask.numel())), Give(1)
    ends = Take(2, flagging_bytes(mask.numel())), Give(2), Give(0)
    return Selected(made, (*copy, *counts, Output(0), *ends, *(Give(take.number) for take in copy)))


def repeated(counts: Tensor, values: Values, output_size: int | None = None) -> Tensor:
    """Each element's place as often as its count says, by the calls that a card carries out (ATen/native/Repeat.h).

    Args:
        counts: [elements], integers.
        values: what is known of them.
        output_size: their sum, if the program tells it: it is not read then.

    Raises:
        RuntimeError: a count is below zero, or their sum is not `output_size`, as PyTorch says it.
    """
    known = values.of(counts)
    if known is None and output_size is None:
        warnings.warn(AssumedValue("what the step repeats by value is taken once", place()), stacklevel=2)
        known = torch.ones(counts.shape, dtype=counts.dtype)
    places = None if known is None else torch.repeat_interleave(known, output_size=output_size)
    counts = counts.contiguous()
    ends = counts.cumsum(0)
    if output_size is None:
        assert places is not None
        output_size = len(places)
        values.note(ends.element_size(), output_size.to_bytes(ends.element_size(), sys.byteorder))
        (counts >= 0).all()
        values.note(1, b"\1")
    made = counts.new_empty(output_size)
    values.tell(made, places)
    return made


def instead(func: Any, args: Sequence[Any], places: Callable[[Tensor], Tensor]) -> Instead:
    """The call with indices in place of masks; `places` finds those of one mask."""
    if func is aten.masked_select.default:
        source, mask = torch.broadcast_tensors(*args)
        func, args = aten.index.Tensor, (source, [mask])
    indices: list[Tensor | None] = []
    for index in args[1]:
        if _is_mask(index):
            indices += places(index).unbind(1)
        else:
            indices.append(index)
    return Instead(func, (args[0], indices, *args[2:]))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.is_meta and index.dtype in _MASKS


def _fills(func: Any, args: Sequence[Any]) -> bool:
    """Whether a number of the program is written where a mask holds, which a card does without looking for the places.

    A tensor of one number on the card is not: without data, one without dimensions is taken for the program's.
    """
    if func not in (aten.index_put_.default, aten.index_put.default):
        return False
    accumulates = len(args) > 3 and args[3]
    are_masks = [_is_mask(index) for index in args[1] if index is not None]
    return not accumulates and args[2].dim() == 0 and are_masks == [True]
