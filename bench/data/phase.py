"""The smooth phase of a coil image, made up for images that come as magnitudes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def with_phase(magnitude: npt.NDArray[np.floating], random: np.random.Generator) -> Tensor:
    """Real and imaginary part of magnitude * exp(i phase), float32 [2, H, W].

    The phase is a random constant plus eight random plane waves of at most one period over the image, in all about
    a radian; it is a function of the place, so that it is the same at every size.
    """
    height, width = magnitude.shape
    rows, columns = ((np.arange(size) + 0.5) / size for size in (height, width))
    phase = np.full((height, width), 2 * np.pi * random.random())
    for _ in range(8):
        k_x, k_y = 2 * random.random(2) - 1
        phase += 0.5 * np.cos(2 * np.pi * (k_x * columns + k_y * rows[:, None] + random.random()))
    return torch.from_numpy(np.stack([magnitude * np.cos(phase), magnitude * np.sin(phase)])).float()
