"""One call of a convolution, as cuDNN sees it: what decides which algorithm runs, and so its workspace."""

from __future__ import annotations

from typing import Literal, NamedTuple

Ints = tuple[int, ...]
Direction = Literal["fprop", "dgrad", "wgrad"]


class Convolution(NamedTuple):
    """A forward convolution, or one of its two gradients, on a batch of N images.

    Shapes are (N, C, H, W) of the input, (K, C / groups, R, S) of the weight and (N, K, P, Q) of the output, whichever
    of the three the call computes; strides are in elements. `dtype` is torch's name without its module: "float32".
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

    def with_images(self, images: int) -> Convolution:
        """The same call on another number of images N."""
        return self._replace(input_shape=(images, *self.input_shape[1:]), output_shape=(images, *self.output_shape[1:]))
