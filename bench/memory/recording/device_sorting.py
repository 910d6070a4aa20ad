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
_SINGLE_TILE_KEYS = {2: 4864, 4: 4864, 8: 2304}  # by the bytes of a key or value: so many are sorted by one block
_SORT_TILE_KEYS = {(4, 4): 8192, (4, 8): 3072, (8, 8): 3840}  # by the bytes of a key and its value
_SCAN_TILES = {2: (30 * 256, 16), 4: (15 * 128, 8), 8: (7 * 128, 16)}  # numbers, and bytes of a tile's status
_UNIQUE_TILE = 320
_FLAGS_TILE, _COUNTED_AT_ONCE = 640, 4096
SMALL_SORT = 4096  # along a dimension of so many, PyTorch's own kernel sorts in place
_SEGMENTED_FROM = 128  # rows

INDEX_BYTES = 8


def radix_sort_bytes(pairs: int, key_bytes: int, value_bytes: int, bits: int) -> int:
    """The storage of a sort of pairs by so many bits of their keys."""
    if pairs <= _SINGLE_TILE_KEYS.get(max(key_bytes, value_bytes), 0):
        return 1
    passes = -(-bits // _BITS_OF_A_PASS)
    tiles = -(-pairs // _SORT_TILE_KEYS.get((key_bytes, value_bytes), 3072))
    twice = _stored(pairs * key_bytes, pairs * value_bytes) if passes > 1 else 0
    return twice + _stored(passes * _DIGITS * 8, tiles * _DIGITS * 4, passes * 4) + _ALIGNMENT_BYTES - 1


def scan_bytes(numbers: int, number_bytes: int) -> int:
    """The storage of a sum of all numbers before each."""
    tile, status_bytes = _SCAN_TILES[min(max(number_bytes, 2), 8)]
    tiles = -(-numbers // tile) + 32
    return _stored(tiles * status_bytes) + 2 * _ALIGNMENT_BYTES - 1


def unique_bytes(numbers: int) -> int:
    """The storage of finding where sorted numbers change."""
    return _stored((-(-numbers // _UNIQUE_TILE) + 32) * 16) + 2 * _ALIGNMENT_BYTES - 1


def counting_bytes(numbers: int) -> int:
    """The storage of counting where numbers are not 0: a sum of each block, of as many as an RTX 3080 runs."""
    return 1 if numbers <= _COUNTED_AT_ONCE else _stored(8160) + _ALIGNMENT_BYTES - 1


def flagging_bytes(numbers: int) -> int:
    """The storage of finding where numbers are not 0."""
    return _stored((-(-numbers // _FLAGS_TILE) + 32) * 8) + 2 * _ALIGNMENT_BYTES - 1


def _stored(*sizes: int) -> int:
    return sum(-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in sizes)


def of_sort(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Of sort: numbered places, and for long rows a sort of all of them (ATen/native/cuda/Sort.cpp)."""
    keys = outputs[0]
    dim = next((arg for arg in args[1:] if isinstance(arg, int) and not isinstance(arg, bool)), -1)
    row = keys.shape[dim] if keys.dim() else 1
    if not keys.numel():
        return outputs
    if row <= SMALL_SORT:
        return *outputs, Take(0, row * INDEX_BYTES), Give(0)
    total, key_bytes = keys.numel(), keys.element_size()
    rows = total // row
    places = Take(0, total * INDEX_BYTES)
    sort_bytes = radix_sort_bytes(total, key_bytes, INDEX_BYTES, 8 * key_bytes)
    if rows == 1:
        return *outputs, places, Take(1, sort_bytes), Give(1), Give(0)
    if rows >= _SEGMENTED_FROM:
        segmented = _stored(total * key_bytes, total * INDEX_BYTES) + _ALIGNMENT_BYTES - 1
        return *outputs, places, Take(1, segmented), Give(1), Give(0)
    again = radix_sort_bytes(total, INDEX_BYTES, INDEX_BYTES, max(1, (rows - 1).bit_length()))
    return (
        *outputs,
        *(places, Take(1, total * INDEX_BYTES), Take(2, total * key_bytes), Take(3, sort_bytes), Give(3), Give(2)),
        *(Take(4, again), Give(4), Give(1), Give(0)),
    )


def of_scan(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Of cumsum, cumprod, logcumsumexp: a scan by CUB where there is one row (ATen/native/cuda/ScanUtils.cuh)."""
    (output,) = outputs
    source, dim = args[0], args[1]
    if not output.numel() or not source.dim() or source.shape[dim] != source.numel() or not source.is_contiguous():
        return outputs
    return output, Take(0, scan_bytes(output.numel(), output.element_size())), Give(0)


aten = torch.ops.aten
RULES = {
    aten.sort.default: of_sort,
    aten.sort.stable: lambda args, outputs: of_sort((args[0], *args[2:]), outputs),
    aten.cumsum.default: of_scan,
    aten.cumprod.default: of_scan,
    aten.logcumsumexp.default: of_scan,
}
