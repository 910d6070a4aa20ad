"""What indexing and the gradients of lookups take inside their kernels; the virtual card is the oracle.

An index that lies on the host is copied to the card for the time of the call. Gradients that may meet at one place are
sorted by it: ATen/native/cuda/Indexing.cu, EmbeddingBackwardKernel.cu.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.device_sorting import (
    INDEX_BYTES,
    SMALL_SORT,
    flagging_bytes,
    radix_sort_bytes,
    runs_bytes,
    scan_bytes,
    unique_bytes,
)

aten = torch.ops.aten

_FEW_INDICES = 3072  # that one kernel sums without sorting
_ROWS_OF_A_THREAD = 10
_OF_THE_LARGEST = 2  # the mode of embedding_bag
_FEW_ROWS = 272  # of a table, whose partial sums need no room: 4 for each multiprocessor of an RTX 3080
_PARTS_OF_A_ROW = 4  # of which there are more, then, for each


def _of_index(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    source, indices = args
    copies = [each.numel() * INDEX_BYTES for each in indices if _is_copied(each, source)]
    takes = [Take(number, size) for number, size in enumerate(copies)]
    return *takes, *outputs, *(Give(take.number) for take in reversed(takes))


def _of_index_put(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    target, indices, values, *accumulates, is_checked = args
    given = [each for each in indices if each is not None]
    if accumulates != [True] or not given or any(each.dtype in (torch.bool, torch.uint8) for each in given):
        return outputs
    places = math.prod(torch.broadcast_shapes(*(each.shape for each in given)))
    if not places:
        return outputs
    size = places * INDEX_BYTES
    items: list[Any] = []
    checks = [Take(20, 8), Take(21, 8), Take(22, 1), Give(22), Take(22, 1), Give(22), Give(20), Give(21)]
    for number, index in enumerate(given):
        items += [] if is_checked else checks  # the largest and the smallest, held against the target
        items += [] if _is_on_the_host(index, target) else [Take(2 * number, size)]
        items.append(Take(2 * number + 1, size))
        items += [] if _is_on_the_host(index, target) else [Give(2 * number)]
        items += [Give(2 * number + 1)] if number else []  # added to the first
    rows = max(1, (target.numel() - 1) // _row(target, indices))
    storage = radix_sort_bytes(places, INDEX_BYTES, INDEX_BYTES, rows.bit_length())
    copy = [] if values.is_contiguous() else [Take(14, values.numel() * values.element_size())]
    sorting = [Take(10, size), Take(11, size), Take(12, size), Take(13, storage), Give(13), Give(12)]
    return *items, *copy, *sorting, Give(11), Give(10), *(Give(take.number) for take in copy), Give(1)


def _row(target: Tensor, indices: Sequence[Tensor | None]) -> int:
    """Numbers of the target that belong to one place: those of the dimensions after the last index."""
    last = max(place for place, index in enumerate(indices) if index is not None)
    return max(1, math.prod(target.shape[last + 1 :]))


def _is_copied(index: Tensor | None, source: Tensor) -> bool:
    """Whether an index is brought to the card, or from 32 bits to 64."""
    return index is not None and (_is_on_the_host(index, source) or index.dtype is torch.int32)


def _is_on_the_host(index: Tensor, target: Tensor) -> bool:
    return index.device.type != target.device.type


def _of_embedding(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    gradient, indices, rows, _, scales = args
    copied = [each for each in (gradient, indices) if not each.is_contiguous()]
    copy = [Take(20 + number, each.numel() * each.element_size()) for number, each in enumerate(copied)]
    given_back = [Give(take.number) for take in copy]
    if indices.numel() <= _FEW_INDICES and not scales:
        return *copy, *outputs, *given_back
    return *copy, *_sorted_sums(indices, rows, scales, outputs), *given_back


def _of_bags(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """The gradient of embedding_bag.

    Sums and means are made as of an embedding; where the largest is taken there is nothing but the result.
    """
    indices, (rows, scales, mode) = args[1], args[6:9]
    return outputs if mode == _OF_THE_LARGEST else _sorted_sums(indices, rows, scales, outputs)


def _of_renorm(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Rows whose norm is bounded: each index once, by a sort (`embedding_renorm_cuda_` in Embedding.cu)."""
    indices = args[1]
    count, size = indices.numel(), indices.numel() * indices.element_size()
    storage = Take(5, radix_sort_bytes(count, INDEX_BYTES, INDEX_BYTES, 64)), Give(5)
    return (
        *(Take(0, size), Take(1, size), Take(2, size), Take(3, size)),
        *(storage if count > SMALL_SORT else ()),
        *(Give(3), Give(2), Take(6, size), Take(7, 8), Take(8, flagging_bytes(count))),
        *map(Give, (8, 7, 6, 1, 0)),
    )


def _sorted_sums(indices: Tensor, rows: int, scales: bool, outputs: Sequence[Tensor]) -> Sequence[Any]:
    """The gradient of a table: indices are sorted, then gradients summed by parts of a row, then rows."""
    (output,) = outputs
    count = indices.numel()
    index_bytes = indices.element_size()
    size = count * index_bytes
    several = min(count, rows)
    parts = count // _ROWS_OF_A_THREAD + several
    row_bytes = output.shape[-1] * max(output.element_size(), 4)
    is_small = rows < _FEW_ROWS and parts > _PARTS_OF_A_ROW * rows
    sums = parts * (index_bytes if is_small else row_bytes)
    storage = radix_sort_bytes(count, index_bytes, index_bytes, rows.bit_length())
    sorted_by_place = [Take(1, size), Take(2, size), Take(3, size), Take(4, storage), Give(4), Give(3)]
    if scales:  # how often each index is there: from its first to its last, and back
        counted = runs_bytes(count)
        sorted_by_place += [Take(16, size), Take(17, counted), Give(17), Take(18, counted), Give(18)]
    segments = [
        *(Take(5, size), Take(6, 8), Take(7, size), Take(8, unique_bytes(count)), Give(8), Give(7)),
        *(Take(9, several * index_bytes), Take(10, several * index_bytes)),
        *(Take(11, scan_bytes(several, index_bytes)), Give(11)),
        *(Take(12, 8), Take(13, parts * index_bytes), Take(14, sums)),
    ]
    ends = [Give(number) for number in (14, 13, 12, 10, 9, 6, 5, 2, 1)]
    if is_small and output.element_size() < 4:
        segments.append(Take(15, rows * row_bytes))
        ends.insert(0, Give(15))
    return *sorted_by_place, output, *segments, *ends, *([Give(16)] if scales else [])


RULES = {
    aten.index.Tensor: _of_index,
    aten._index_put_impl_.default: lambda args, outputs: _of_index_put((*args[:4], True), outputs),  # as autograd does
    aten.index_put_.default: lambda args, outputs: _of_index_put((*args, False), outputs),
    aten.embedding_dense_backward.default: _of_embedding,
    aten.embedding_renorm_.default: _of_renorm,
    aten._embedding_bag_backward.default: _of_bags,
}
