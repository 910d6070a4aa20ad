"""One call of a convolution, as cuDNN sees it: what decides which algorithm runs, and so its workspace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Ints = tuple[int, ...]
Direction = Literal["fprop", "dgrad", "wgrad"]


class Convolution(NamedTuple):
    """A forward convolution, or one of its two gradients, on a batch of N images.

    Shapes are (N, C, H, W) of the input, (K, C / groups, R, S) of the weight and (N, K, P, Q) of the output, whichever
    of the three the call computes; strides are in elements. `dtype` is torch's name without its module: "float32".
    A transposed convolution is the gradient "dgrad" of another, and its gradient for the input that other's "fprop".
    """

    direction: Direction
    input_shape: Ints
    input_stride: Ints
    weight_shape: Ints
    weight_stride: Ints
    output_shape: Ints
    output_stride: Ints
    padding: Ints
    stride: Ints
    dilation: Ints
    groups: int
    dtype: str
    is_transposed: bool = False

    def with_images(self, images: int) -> Convolution:
        """The same call on another number of images N."""
        return self._replace(input_shape=(images, *self.input_shape[1:]), output_shape=(images, *self.output_shape[1:]))


def most_workspace_bytes(call: Convolution) -> int:
    """More than cuDNN took on any card for any call that was looked at (docs/MEMORY.md, "The two bounds").

    A workspace holds images in another order, their channels padded, some with all that a kernel reaches; and weights,
    of their gradients many partial sums in float32. How often each of these at most, was measured.
    """
    element_bytes = _ELEMENT_BYTES.get(call.dtype, 2)
    channels, features = (_padded(shape[1], call.groups) for shape in (call.input_shape, call.output_shape))
    pixels = (math.prod(shape[2:]) for shape in (call.input_shape, call.output_shape))
    images = sum(call.input_shape[0] * many * size for many, size in zip((channels, features), pixels, strict=True))
    weights = features * (channels // call.groups) * math.prod(call.weight_shape[2:])
    return _SMALL_BYTES + min(
        math.ceil(of_images * images * element_bytes + of_weights * weights * max(element_bytes, 4))
        for of_images, of_weights in _times(call)
    )


def _padded(channels: int, groups: int) -> int:
    """Channels as kernels for tensor cores have them: in each group a multiple of 8."""
    return groups * 8 * -(-channels // groups // 8)


def _times(call: Convolution) -> Sequence[tuple[float, float]]:
    """How often a workspace holds input and output, and the weights, at most: one or two pairs that each held."""
    area = math.prod(call.weight_shape[2:])
    if call.direction == "wgrad":
        return next(times for largest, times in _OF_GRADIENTS if area <= largest)
    if call.direction == "dgrad" and max(call.stride) > 1 and max(call.dilation) > 1:
        return [(10, 5)]
    if area == 1 and call.dtype in ("float16", "bfloat16"):
        return [(15, 1)]  # one kernel pads to 128 channels
    return next(times for largest, times in _OF_IMAGES if area <= largest)


_ELEMENT_BYTES = {"float32": 4, "float64": 8, "complex64": 8, "complex128": 16}  # of halves: 2
_SMALL_BYTES = 16 * 2**20  # beside the tensors, where these are small

# By the largest size of a kernel, in elements.
_OF_IMAGES = ((1, [(5, 1)]), (9, [(6, 7)]), (49, [(6, 10)]), (math.inf, [(19, 2)]))
_OF_GRADIENTS = (
    (1, [(5, 1)]),
    (9, [(4.5, 67), (10, 5)]),
    (49, [(14, 120), (48, 7)]),
    (math.inf, [(4.5, 304), (67, 21)]),
)
