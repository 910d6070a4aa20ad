"""Generated unknowns of the operators that are not linear: layered ground, and trajectories of Lorenz-96."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.data.base import ImageSet, Split, random_stream
from bench.errors import UsageError
from bench.operators.lorenz import LARGEST_STATE, runge_kutta

COUNTS: dict[Split, int] = {"train": 2000, "validation": 50, "test": 50}


class _Generated(ImageSet):
    """Images, each a subject of its own, that follow from `seed`, the split and the index.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        seed: another seed gives other images.
        count: number of images; by default 2,000 to train, 50 to validate, 50 to test.
    """

    licence = "none needed"
    origin = "generated"
    channels = 1

    def __init__(
        self, split: Split, image_shape: tuple[int, int, int], seed: int = 0, count: int | None = None
    ) -> None:
        super().__init__(split, image_shape)
        if count is not None and count < 1:
            raise UsageError(f"{self.name} got count {count}, expected at least 1 image")
        self.seed = seed
        self.subjects = [f"{self.name} {seed}/{split}/{index}" for index in range(count or COUNTS[split])]

    def _stream(self, index: int) -> np.random.Generator:
        return random_stream(self.name, self.seed, self.split, index)


class LayeredGround(_Generated):
    """Velocity of folded layers, [1, H, W] in [0, 1]: it grows with the depth but for a random part."""

    name = "layered-ground"
    place = 4
    content = "velocities of layered ground, in [0, 1]"
    data_range = 1.0

    def _image(self, index: int) -> Tensor:
        random = self._stream(index)
        _, height, width = self.image_shape
        x = (np.arange(width) + 0.5) / width
        z = ((np.arange(height) + 0.5) / height)[:, None]
        count = int(random.integers(3, 8))
        depths = np.sort(random.random(count))
        values = np.clip(np.linspace(0.05, 0.9, count + 1) + 0.1 * random.standard_normal(count + 1), 0, 1)
        tilt, fold, phase = 0.2 * (random.random() - 0.5), 0.06 * random.random(), 2 * np.pi * random.random()
        moved = tilt * (x - 0.5) + fold * np.sin(2 * np.pi * (0.5 + random.random()) * x + phase)
        layer = sum((z > depth + moved).astype(int) for depth in depths)
        return torch.from_numpy(values[layer]).float().unsqueeze(0)


class Attractor(_Generated):
    """States of Lorenz-96 at a forcing of 8, [1, W, n]: a row is the state 0.5 after the row above, over 16."""

    name = "attractor"
    place = 5
    content = "trajectories of Lorenz-96, states over 16"
    data_range = 2.0

    def _image(self, index: int) -> Tensor:
        _, windows, variables = self.image_shape
        state = torch.from_numpy(8 + self._stream(index).standard_normal(variables))
        rows = []
        for row in range(40 + windows):  # 20 units of time until it is on the attractor
            rows += [state] if row >= 40 else []
            for _ in range(10):
                state = runge_kutta(state, 0.05, 8.0)
        return (torch.stack(rows) / LARGEST_STATE).clamp(-1, 1).float().unsqueeze(0)
