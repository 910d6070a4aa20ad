"""The workspace in which cuDNN normalises a batch whose channels lie last, in training.

It has partial results of so many channels and pixels a thread block, and of the forward pass a counter for each; other
channels and pixels make other blocks. Read off answers of cuDNN 9.19, 9.20, 9.24 and 9.26, which are the same for an
RTX 3080, H200 and T4; where channels do not lie last it takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.memory.reductions import Launch, Multiprocessors

_BYTES_OF_CHANNEL = 8  # two sums
_COUNTER_BYTES = 4
_FORWARD_BYTES, _BACKWARD_BYTES = 1072, 1056  # whatever is normalised
_FORWARD_PIXELS, _FORWARD_PIXELS_OF_HALVES, _BACKWARD_PIXELS = 64, 160, 96


class Normalisation(NamedTuple):
    """The workspace of one call, whose pixels are affine in the batch.

    Attributes:
        pixels: Of all images together.
        channels: Of each.
        is_forward: The forward pass, or else the backward pass.
        is_half: Whether the images are of float16.
        more_pixels: For each image of a batch, where `pixels` are those of none.
    """

    pixels: int
    channels: int
    is_forward: bool
    is_half: bool
    more_pixels: int = 0

    def through(self, following: Normalisation, batch: int) -> Normalisation | None:
        """At every batch, from the same call at `batch` and `batch + 1`; None if it is another."""
        if self._replace(pixels=0) != following._replace(pixels=0):
            return None
        slope = following.pixels - self.pixels
        return self._replace(pixels=self.pixels - slope * batch, more_pixels=slope)

    def at(self, batch: int) -> Normalisation:
        """At one batch size."""
        return self._replace(pixels=self.pixels + self.more_pixels * batch, more_pixels=0)

    def bytes_at(self, batch: int, cards: Sequence[Multiprocessors]) -> int:
        """Its bytes, on any card."""
        pixels = self.pixels + self.more_pixels * batch
        width = 64 if self.channels % 4 == 0 else 16 if self.channels > 4 else 4
        rows = (_FORWARD_PIXELS_OF_HALVES if self.is_half else _FORWARD_PIXELS) if self.is_forward else _BACKWARD_PIXELS
        if width == 4:
            rows *= 4
        across, down = -(-self.channels // width), -(-pixels // rows)
        block_bytes = _BYTES_OF_CHANNEL * width + (_COUNTER_BYTES if self.is_forward else 0)
        fixed_bytes = _FORWARD_BYTES if self.is_forward else _BACKWARD_BYTES
        return across * down * block_bytes + fixed_bytes + _COUNTER_BYTES * across

    def launches_at(self, batch: int, cards: Sequence[Multiprocessors]) -> tuple[Launch, ...]:
        """None: it is taken once."""
        return ()
