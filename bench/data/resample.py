"""Images brought to the size asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatImage = npt.NDArray[np.float32]


def resample(image: FloatImage, height: int, width: int) -> FloatImage:
    """The whole of `image` [h, w] as [height, width].

    Smaller in both directions: each pixel is the average over its area. Otherwise linear interpolation, which
    averages where it shrinks.
    """
    if image.shape == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), method))


def pad_to_aspect(image: FloatImage, height: int, width: int) -> FloatImage:
    """`image` [h, w] with zeros around it, as few as give it the aspect ratio of [height, width]."""
    h, w = image.shape
    padded_h, padded_w = max(h, round(w * height / width)), max(w, round(h * width / height))
    top, left = (padded_h - h) // 2, (padded_w - w) // 2
    return np.pad(image, ((top, padded_h - h - top), (left, padded_w - w - left)))
