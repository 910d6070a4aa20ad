"""What a reduction on a card takes beside its result: PyTorch's own arithmetic, written out.

Where a result depends on many numbers, several thread blocks share it. They leave what they have in a staging buffer,
and count themselves in semaphores; both come from the caching allocator, and go back when the kernel is launched. How
many blocks share a result follows from shape and strides, the types, and the card's multiprocessors: `setReduceConfig`
and `gpu_reduce_kernel` in aten/src/ATen/native/cuda/Reduce.cuh
(https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/cuda/Reduce.cuh). The order of dimensions, and how an
input of 2 GiB or more is split, are TensorIterator's (aten/src/ATen/TensorIterator.cpp).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Ints = tuple[int, ...]

_WARP_THREADS = 32
_SEMAPHORE_BYTES = 4
_LEAST_VALUES, _MOST_VALUES = 16, 256  # per thread
_LEAST_FOR_VECTORS = 128  # numbers along a dimension that is read in vectors
_MOST_OFFSET = 2**31 - 1  # that an index of 32 bits reaches


class Multiprocessors(NamedTuple):
    """What of a card decides how a reduction is split."""

    number: int
    threads: int  # of each, at most


class Reduction(NamedTuple):
    """One call of a kernel that reduces some dimensions of one tensor.

    Attributes:
        shape: Of the input, as all that follows by dimension.
        strides: In elements.
        is_reduced: Which dimensions the result does not have.
        offset: Of the input's first element in its storage, in elements.
        element_bytes: Of the input.
        result_bytes: Of an element of the result; of the first if there are two.
        partial_bytes: Of what a thread sums in (`arg_t`).
        vector: How many numbers of one result a thread reads at once (`input_vec_size`).
        most_threads: Of a block (`MAX_NUM_THREADS`).
        in_result: Whether partial results can be kept in the result itself (`can_accumulate_in_output`).
    """

    shape: Ints
    strides: Ints
    is_reduced: tuple[bool, ...]
    offset: int
    element_bytes: int
    result_bytes: int
    partial_bytes: int
    vector: int = 4
    most_threads: int = 512
    in_result: bool = True


class Launch(NamedTuple):
    """The bytes that one kernel of a reduction takes: of the staging buffer, and of the semaphores; 0 where none."""

    staging_bytes: int
    semaphore_bytes: int


NOTHING = Launch(0, 0)


class Staging(NamedTuple):
    """What a reduction takes: for its partial results, for all of its kernels; and for each of these in turn."""

    partial_bytes: int
    launches: tuple[Launch, ...]

    @property
    def most(self) -> Launch:
        """The kernel that takes the most."""
        return max(self.launches, default=NOTHING)


@functools.lru_cache(maxsize=65536)
def staging(reduction: Reduction, card: Multiprocessors) -> Staging:
    """What a reduction takes on a card."""
    values = math.prod(size for size, reduced in zip(reduction.shape, reduction.is_reduced, strict=True) if reduced)
    if not math.prod(reduction.shape):
        return Staging(0, ())
    if values < _MOST_VALUES and reduction.in_result:  # most of all calls
        return Staging(0, ())
    dimensions, is_whole = _dimensions(reduction)
    if is_whole:
        return Staging(0, (_launch(reduction, dimensions, reduction.offset, card),))
    kept_bytes = 0
    if not reduction.in_result and reduction.result_bytes < reduction.partial_bytes:
        spans = (dim.size * dim.result_stride for dim in dimensions)
        kept_bytes = max(reduction.result_bytes, *spans) // reduction.result_bytes * reduction.partial_bytes
    parts = _split(dimensions, reduction.offset * reduction.element_bytes)
    launches = (_launch(reduction, part, offset // reduction.element_bytes, card) for part, offset in parts)
    return Staging(kept_bytes, tuple(launches))


class _Dimension(NamedTuple):
    """A dimension as TensorIterator has it; strides in bytes, 0 in a result that does not have it."""

    size: int
    result_stride: int
    stride: int


def _dimensions(reduction: Reduction) -> tuple[list[_Dimension], bool]:
    """The dimensions in the order of TensorIterator, fastest first, neighbours made one; whether 32 bits reach all."""
    span = reduction.result_bytes
    dimensions: list[_Dimension] = []
    described = zip(reduction.shape, reduction.strides, reduction.is_reduced, strict=True)
    for size, stride, reduced in reversed(list(described)):
        dimensions.append(_Dimension(size, 0 if reduced else span, stride * reduction.element_bytes))
        span *= 1 if reduced else size
    dimensions = _joined(_ordered(dimensions))
    return dimensions, _reaches(dimensions)


def _ordered(dimensions: list[_Dimension]) -> list[_Dimension]:
    """By insertion: reduced ones first, then by the first strides that tell (reorder_dimensions)."""
    order = list(dimensions)
    for place in range(1, len(order)):
        here = place
        for before in range(place - 1, -1, -1):
            comparison = _compared(order[before], order[here])
            if comparison > 0:
                order[before], order[here] = order[here], order[before]
                here = before
            elif comparison < 0:
                break
    return order


def _compared(one: _Dimension, other: _Dimension) -> int:
    """Above 0 where the two have to change places, below where they are in order, 0 where nothing tells."""
    if (one.result_stride == 0) != (other.result_stride == 0):
        return 1 if other.result_stride == 0 else -1
    for first, second in ((one.result_stride, other.result_stride), (one.stride, other.stride)):
        if first == 0 or second == 0:
            continue
        if first != second:
            return -1 if first < second else 1
        if one.size > other.size:
            return 1
    return 0


def _joined(dimensions: list[_Dimension]) -> list[_Dimension]:
    """Neighbours that are one after the other in memory, as one (coalesce_dimensions)."""
    joined = dimensions[:1]
    for dimension in dimensions[1:]:
        last = joined[-1]
        follows = (
            last.size * last.result_stride == dimension.result_stride and last.size * last.stride == dimension.stride
        )
        if last.size == 1:
            joined[-1] = dimension
        elif dimension.size == 1:
            pass
        elif follows:
            joined[-1] = last._replace(size=last.size * dimension.size)
        else:
            joined.append(dimension)
    return joined


def _reaches(dimensions: Sequence[_Dimension]) -> bool:
    """Whether an index of 32 bits reaches every byte (can_use_32bit_indexing)."""
    if math.prod(dim.size for dim in dimensions) > _MOST_OFFSET:
        return False
    ends = (
        1 + sum((dim.size - 1) * stride for dim, stride in zip(dimensions, strides, strict=True))
        for strides in ([dim.result_stride for dim in dimensions], [dim.stride for dim in dimensions])
    )
    return all(end <= _MOST_OFFSET for end in ends)


def _split(dimensions: list[_Dimension], offset_bytes: int) -> Iterator[tuple[list[_Dimension], int]]:
    """Halves of the largest dimension, and of these, until 32 bits reach all of a part (SplitUntil32Bit)."""
    if _reaches(dimensions):
        yield dimensions, offset_bytes
        return
    extents = [(dim.size - 1) * max(dim.result_stride, dim.stride) for dim in dimensions]
    largest = max(range(len(dimensions)), key=lambda place: (extents[place], place))
    size = dimensions[largest].size
    halves = ((size // 2, 0), (size - size // 2, size // 2 * dimensions[largest].stride))
    for part, begin in halves:
        narrow = [*dimensions]
        narrow[largest] = dimensions[largest]._replace(size=part)
        yield from _split(narrow, offset_bytes + begin)


def _launch(reduction: Reduction, dimensions: list[_Dimension], offset: int, card: Multiprocessors) -> Launch:
    """One kernel (setReduceConfig, global_memory_size, semaphore_size)."""
    results = math.prod(dim.size for dim in dimensions if dim.result_stride)
    values = math.prod(dim.size for dim in dimensions) // results
    reduced = sum(dim.result_stride == 0 for dim in dimensions)
    along_input = reduced == len(dimensions) or dimensions[0].stride < dimensions[reduced].stride
    fastest = dimensions[0 if along_input else reduced].stride
    width, height = (values, results) if along_input else (results, values)
    vector = 1  # of results that one thread makes
    if fastest == reduction.element_bytes:
        if along_input and width >= _LEAST_FOR_VECTORS and reduced == 1:
            width //= reduction.vector
        elif not along_input:
            vector = _result_vector(dimensions, reduced, offset, reduction.element_bytes)
            width //= vector
    across, down = _block(width, height, reduction.most_threads // vector)

    values_step, results_step = (across, 1) if along_input else (1, across)
    values_step *= down
    values_per_thread = -(-values // values_step)
    columns = -(-(results // vector) // results_step)
    target = card.number * (card.threads // (across * down))
    if values_per_thread < _MOST_VALUES or columns > target:
        return NOTHING
    least, most = -(-values_per_thread // _MOST_VALUES), -(-values_per_thread // _LEAST_VALUES)
    blocks = min(max(-(-target // columns), least), most)
    if blocks <= 1:
        return NOTHING
    bytes_staged = reduction.partial_bytes * results * blocks * (1 if along_input else across * vector)
    return Launch(bytes_staged, _SEMAPHORE_BYTES * columns)


def _result_vector(dimensions: Sequence[_Dimension], reduced: int, offset: int, element_bytes: int) -> int:
    """How many results a thread makes at once: as many as all strides allow (get_output_vec_size)."""
    others = (dim.stride // element_bytes for place, dim in enumerate(dimensions) if place != reduced)
    return math.gcd(4, offset, dimensions[reduced].size, *others)


def _block(width: int, height: int, most_threads: int) -> tuple[int, int]:
    """Threads of a block, across and down (set_block_dimension)."""
    across_at_most, down_at_most = (_power_below(min(size, most_threads)) for size in (width, height))
    across = min(across_at_most, _WARP_THREADS)
    down = min(down_at_most, most_threads // across)
    return min(across_at_most, most_threads // down), down


def _power_below(number: int) -> int:
    """The largest power of 2 that is not larger; 1 for 0."""
    return 1 << max(number.bit_length() - 1, 0)
