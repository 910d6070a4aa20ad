"""What NVIDIA's CUB takes for its temporary storage, and which operations sort or scan with it.

CUB asks for one block that holds several arrays, each at a multiple of 256 bytes, and 255 bytes more to begin at one:
`AliasTemporaries` in cub/util_device.cuh (https://github.com/NVIDIA/cccl). A radix sort goes over its keys once for
eight of their bits. How many keys a thread block takes at once is tuned for each kind of card; what hangs on it is a
hundredth of the storage. Here it is as on compute capability 8.x; the virtual card is the oracle (torch 2.14.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take

_ALIGNMENT_BYTES = 256
_DIGITS, _BITS_OF_A_PASS = 256, 8
_SINGLE_TILE_KEYS = {4: 4864, 8: 2304}  # by the bytes of a key or value: so many are sorted by one block
_SORT_TILE_KEYS = {(4, 4): 8192, (8, 4): 3840, (8, 8): 3840}  # by the bytes of a key and its value; others: 3072
_PAIRS_AT_ONCE = 2**28 - 1
_SHORT_SORT_BYTES = {1: 1_089_536, 2: 2_134_016}  # by the bytes of a key: counts of as many blocks as an RTX 3080 runs
_SCAN_TILES = {1: 3840, 2: 3840, 4: 1920, 8: 896, 16: 384}  # by the bytes of a number
_UNIQUE_TILE = 320
_RUNS_TILE = 2304
_FLAGS_TILE, _COUNTED_AT_ONCE = 640, 4096
SMALL_SORT = 4096  # along a dimension of so many, PyTorch's own kernel sorts in place
_SEGMENTED_FROM = 128  # rows

INDEX_BYTES = 8


def radix_sort_bytes(pairs: int, key_bytes: int, value_bytes: int, bits: int) -> int:
    """The storage of a sort of pairs by so many bits of their keys."""
    if pairs <= _SINGLE_TILE_KEYS[max(key_bytes, value_bytes)]:
        return 1
    if key_bytes in _SHORT_SORT_BYTES:
        return _stored(pairs * key_bytes, pairs * value_bytes) + _SHORT_SORT_BYTES[key_bytes] + _ALIGNMENT_BYTES - 1
    passes = -(-bits // _BITS_OF_A_PASS)
    tile = _SORT_TILE_KEYS.get((key_bytes, value_bytes), 3072)
    most_tiles = _PAIRS_AT_ONCE // tile
    tiles, rounds = min(-(-pairs // tile), most_tiles), -(-pairs // (most_tiles * tile)) * passes
    twice = _stored(pairs * key_bytes, pairs * value_bytes) if passes > 1 else 0
    return twice + _stored(rounds * _DIGITS * 8, tiles * _DIGITS * 4, rounds * 4) + _ALIGNMENT_BYTES - 1


def scan_bytes(numbers: int, number_bytes: int, is_word: bool = True) -> int:
    """The storage of a sum of all numbers before each.

    Of each tile its sum and its state are kept: in one word, or in lists of their own where a number is no word of the
    machine's, as halves and complex numbers are not.
    """
    tiles = -(-numbers // _SCAN_TILES[number_bytes]) + 32
    of_a_tile = [max(2 * number_bytes, 4)] if is_word else [4, number_bytes, number_bytes]
    return _stored(*(tiles * size for size in of_a_tile)) + 2 * _ALIGNMENT_BYTES - 1


def unique_bytes(numbers: int) -> int:
    """The storage of finding where sorted numbers change."""
    return _stored((-(-numbers // _UNIQUE_TILE) + 32) * 16) + 2 * _ALIGNMENT_BYTES - 1


def runs_bytes(numbers: int) -> int:
    """The storage of counting, in sorted numbers, how many of each there are."""
    return _stored((-(-numbers // _RUNS_TILE) + 32) * 16) + 2 * _ALIGNMENT_BYTES - 1


def counting_bytes(numbers: int) -> int:
    """The storage of counting where numbers are not 0: a sum of each block, of as many as an RTX 3080 runs."""
    return 1 if numbers <= _COUNTED_AT_ONCE else 8192 + _ALIGNMENT_BYTES - 1


def flagging_bytes(numbers: int) -> int:
    """The storage of finding where numbers are not 0."""
    return _stored((-(-numbers // _FLAGS_TILE) + 32) * 8) + 2 * _ALIGNMENT_BYTES - 1


def _stored(*sizes: int) -> int:
    return sum(-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in sizes)


def of_sort(keys: Tensor, dim: int, outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Of sort: numbered places, and for long rows a sort of all of them (ATen/native/cuda/Sort.cpp)."""
    if not keys.numel() or not keys.dim():
        return outputs
    row = keys.shape[dim]
    if row <= SMALL_SORT:
        return *outputs, Take(0, row * INDEX_BYTES), Give(0)
    total, key_bytes = keys.numel(), keys.element_size()
    if dim % keys.dim() != keys.dim() - 1:  # in rows of its own, then copied back
        laid = keys.movedim(dim, -1)
        inside = of_sort(laid, -1, ())
        rows_of_both = [Take(10, total * key_bytes), Take(11, total * key_bytes), Take(12, total * INDEX_BYTES)]
        return *outputs, *rows_of_both, *inside, Give(12), Give(11), Give(10)
    rows = total // row
    places = Take(0, total * INDEX_BYTES)
    sort_bytes = radix_sort_bytes(total, key_bytes, INDEX_BYTES, 8 * key_bytes)
    if rows == 1:
        return *outputs, places, Take(1, sort_bytes), Give(1), Give(0)
    if rows >= _SEGMENTED_FROM:
        segmented = _stored(total * key_bytes, total * INDEX_BYTES) + _ALIGNMENT_BYTES - 1
        return *outputs, places, Take(1, segmented), Give(1), Give(0)
    again = radix_sort_bytes(total, INDEX_BYTES, INDEX_BYTES, _BITS_OF_A_PASS)  # by rows, which are few
    return (
        *outputs,
        *(places, Take(1, total * INDEX_BYTES), Take(2, total * key_bytes), Take(3, sort_bytes), Give(3), Give(2)),
        *(Take(4, again), Give(4), Give(1), Give(0)),
    )


def of_scan(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Of cumsum, cumprod, logcumsumexp: a scan by CUB where there is one row (ATen/native/cuda/ScanUtils.cuh)."""
    (output,) = outputs
    source, dim = args[:2]
    if not output.numel() or not source.dim():
        return outputs
    laid = source.to(output.dtype)
    is_copied = [laid.dtype is not source.dtype, not laid.is_contiguous()]
    sizes = [output.numel() * output.element_size()] * sum(is_copied)
    if source.shape[dim] == source.numel():
        is_word = not output.is_complex() and output.dtype not in (torch.float16, torch.bfloat16)
        sizes.append(scan_bytes(output.numel(), output.element_size(), is_word))
    takes = [Take(number, size) for number, size in enumerate(sizes)]
    return output, *takes, *(Give(take.number) for take in reversed(takes))


aten = torch.ops.aten
RULES = {
    aten.sort.default: lambda args, outputs: of_sort(args[0], args[1], outputs),
    aten.sort.stable: lambda args, outputs: of_sort(args[0], args[2], outputs),
    aten.cumsum.default: of_scan,
    aten.cumprod.default: of_scan,
    aten.logcumsumexp.default: of_scan,
}
