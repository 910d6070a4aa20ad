"""Generated phantoms for CT and MRI: random ellipses with texture, the same phantom at every size.

A phantom lives on the square [-1, 1]^2, x to the right and y downwards. Its ellipses and waves are drawn before the
size is known; a pixel holds their average over its area: exactly for the waves, with the edge taken as straight for
the ellipses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.base import ImageSet, Split, random_stream
from bench.data.phase import with_phase
from bench.errors import UsageError

Array = npt.NDArray[np.float64]
COUNTS: dict[Split, int] = {"train": 2000, "validation": 50, "test": 50}


@dataclass(frozen=True)
class Ellipse:
    """What is inside has the value `value`, roughened by the texture times `roughness`.

    Centre (x, y) and semi-axes (a, b) in units of half the image's side, the first axis turned by `angle` radians.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float
    value: float
    roughness: float = 0.0

    def coverage(self, columns: Array, rows: Array, pixel: tuple[float, float]) -> Array:
        """The share of each pixel inside the ellipse, [H, W], for pixel centres x = `columns` and y = `rows`."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x, y = columns - self.x, rows[:, None] - self.y
        u, v = (cos * x + sin * y) / self.a, (cos * y - sin * x) / self.b
        radius = np.sqrt(u * u + v * v)
        # The distance to the edge over the pixel's size across it: (1 - r) / |grad r|, with r |grad r| below.
        slope_x, slope_y = (cos * u / self.a - sin * v / self.b), (sin * u / self.a + cos * v / self.b)
        across = np.hypot(slope_x * pixel[0], slope_y * pixel[1]) + 1e-12
        covered: Array = np.clip(0.5 + (1 - radius) * radius / across, 0, 1)
        return covered

    def box(self, columns: Array, rows: Array, pixel: tuple[float, float]) -> tuple[slice, slice]:
        """Rows and columns outside of which nothing is covered."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        reach_x = np.hypot(self.a * cos, self.b * sin) + 2 * pixel[0]
        reach_y = np.hypot(self.a * sin, self.b * cos) + 2 * pixel[1]
        return (
            slice(*np.searchsorted(rows, (self.y - reach_y, self.y + reach_y))),
            slice(*np.searchsorted(columns, (self.x - reach_x, self.x + reach_x))),
        )


@dataclass(frozen=True)
class Texture:
    """Random plane waves cos(pi (k_x x + k_y y) + phase), weaker the shorter they are; roughly of unit variance."""

    frequencies: Array
    phases: Array
    amplitudes: Array

    @classmethod
    def draw(
        cls, random: np.random.Generator, waves: int = 24, longest: float = 2.0, shortest: float = 24.0
    ) -> Texture:
        """`waves` waves with between `longest` and `shortest` periods over the image."""
        periods = longest * (shortest / longest) ** random.random(waves)
        directions = np.pi * random.random(waves)
        amplitudes = periods**-0.5
        return cls(
            periods * np.stack([np.cos(directions), np.sin(directions)]),
            2 * np.pi * random.random(waves),
            amplitudes * np.sqrt(2 / np.sum(amplitudes**2)),
        )

    def render(self, columns: Array, rows: Array, pixel: tuple[float, float]) -> Array:
        """The average over each pixel, [H, W]: that of a wave is the wave at the centre times two sincs."""
        image = np.zeros((len(rows), len(columns)))
        for (k_x, k_y), phase, amplitude in zip(self.frequencies.T, self.phases, self.amplitudes, strict=True):
            amplitude = amplitude * np.sinc(k_x * pixel[0] / 2) * np.sinc(k_y * pixel[1] / 2)
            x, y = np.pi * k_x * columns + phase, np.pi * k_y * rows
            image += np.outer(amplitude * np.cos(y), np.cos(x))
            image -= np.outer(amplitude * np.sin(y), np.sin(x))
        return image


def render(ellipses: list[Ellipse], texture: Texture, height: int, width: int, roughness: float = 1.0) -> Array:
    """The ellipses painted one over the other on 0, values kept in [0, 1]: [height, width].

    `roughness` multiplies that of every ellipse.
    """
    pixel = (2 / width, 2 / height)
    columns, rows = _centres(width), _centres(height)
    rough = roughness * texture.render(columns, rows, pixel)
    image = np.zeros((height, width))
    for ellipse in ellipses:
        box = ellipse.box(columns, rows, pixel)
        inside = ellipse.coverage(columns[box[1]], rows[box[0]], pixel)
        image[box] += inside * (ellipse.value + ellipse.roughness * rough[box] - image[box])
    return np.clip(image, 0, 1)


def _centres(pixels: int) -> Array:
    centres: Array = (2 * np.arange(pixels) + 1) / pixels - 1
    return centres


class _Phantoms(ImageSet):
    """Phantoms, each a subject of its own, that follow from `seed`, the split and the index.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        seed: another seed gives other phantoms.
        count: number of phantoms; by default 2,000 to train, 50 to validate, 50 to test.
        texture: times the usual strength of what is inside the ellipses; 0: each has one value.
    """

    licence = "none needed"
    origin = "generated"

    def __init__(
        self,
        split: Split,
        image_shape: tuple[int, int, int],
        seed: int = 0,
        count: int | None = None,
        texture: float = 1.0,
    ) -> None:
        super().__init__(split, image_shape)
        if count is not None and count < 1:
            raise UsageError(f"{self.name} got count {count}, expected at least 1 phantom")
        if not 0 <= texture < math.inf:
            raise UsageError(f"{self.name} got texture {texture}, expected a finite number of at least 0")
        self.texture = texture
        self.seed = seed
        self.subjects = [f"phantom {seed}/{split}/{index}" for index in range(count or COUNTS[split])]

    def _stream(self, what: str, index: int) -> np.random.Generator:
        return random_stream(self.name, what, self.seed, self.split, index)

    def _render(self, ellipses: list[Ellipse], index: int) -> Array:
        texture = Texture.draw(self._stream("texture", index))
        return render(ellipses, texture, *self.image_shape[1:], roughness=self.texture)


class CtPhantoms(_Phantoms):
    """Slices of a chest: [1, N, N] in [0, 1], attenuation over that of 3071 HU, as in LoDoPaB-CT (water is 0.25)."""

    name = "ct-phantoms"
    place = 2
    content = "chest-like phantoms, in [0, 1]"
    channels = 1
    data_range = 1.0

    def _image(self, index: int) -> Tensor:
        return torch.from_numpy(self._render(_chest(self._stream("ellipses", index)), index)).float().unsqueeze(0)


class MriPhantoms(_Phantoms):
    """Slices of a head: [2, H, W], real and imaginary part of a magnitude in [0, 1] with a smooth random phase."""

    name = "mri-phantoms"
    place = 3
    content = "head-like phantoms, complex, magnitude in [0, 1]"
    channels = 2
    data_range = 1.0

    def _image(self, index: int) -> Tensor:
        magnitude = self._render(_head(self._stream("ellipses", index)), index)
        return with_phase(magnitude, self._stream("phase", index))


def _chest(random: np.random.Generator) -> list[Ellipse]:
    """Fat, muscle, two lungs with vessels, heart, spine and ribs, each with a place, shape and value of its own."""

    def near(value: float, spread: float) -> float:
        return value + spread * (2 * random.random() - 1)

    a, b, tilt = near(0.82, 0.1), near(0.6, 0.1), near(0, 0.15)
    body = [
        Ellipse(near(0, 0.05), near(0, 0.05), a, b, tilt, near(0.22, 0.01), 0.004),
        Ellipse(near(0, 0.05), near(0, 0.03), a * near(0.91, 0.03), b * near(0.89, 0.03), tilt, near(0.26, 0.01), 0.01),
    ]
    lungs, vessels, ribs = [], [], []
    for side in (-1, 1):
        x, y = side * a * near(0.47, 0.05), near(0, 0.08)
        lung_a, lung_b, turn = a * near(0.3, 0.06), b * near(0.62, 0.1), near(side * 0.2, 0.2)
        lungs.append(Ellipse(x, y, lung_a, lung_b, turn, near(0.06, 0.03), 0.012))
        for _ in range(random.integers(4, 9)):
            place_x, place_y = x + near(0, 0.6) * lung_a, y + near(0, 0.6) * lung_b
            size, value = near(0.035, 0.02), near(0.25, 0.05)
            vessels.append(Ellipse(place_x, place_y, size, size * near(0.8, 0.2), near(0, 3.1), value))
        for _ in range(random.integers(2, 5)):
            turn = near(0, 1.2)
            place_x, place_y = side * a * 0.86 * np.cos(turn), b * 0.84 * np.sin(turn)
            ribs.append(Ellipse(place_x, place_y, near(0.07, 0.02), 0.025, side * turn + 1.57, near(0.45, 0.1)))
    spine_y, spine = b * near(0.62, 0.05), near(0.13, 0.03)
    organs = [
        Ellipse(
            near(0.1, 0.12), near(-0.1, 0.1), near(0.25, 0.07), near(0.2, 0.05), near(0, 1), near(0.27, 0.02), 0.01
        ),
        Ellipse(near(0, 0.05), spine_y, spine, spine * near(0.85, 0.1), 0, near(0.42, 0.08), 0.03),
        Ellipse(near(0, 0.02), spine_y + 0.9 * spine, 0.045, 0.035, 0, near(0.26, 0.01)),
    ]
    return body + lungs + organs[:1] + vessels + ribs + organs[1:]


def _head(random: np.random.Generator) -> list[Ellipse]:
    """Scalp, skull, grey and white matter, ventricles, and a handful of other structures."""

    def near(value: float, spread: float) -> float:
        return value + spread * (2 * random.random() - 1)

    a, b, tilt = near(0.66, 0.08), near(0.82, 0.08), near(0, 0.2)
    x, y = near(0, 0.06), near(0, 0.06)
    shells = [
        Ellipse(x, y, a * share, b * share, tilt, value, roughness)
        for share, value, roughness in [
            (1.0, near(0.85, 0.1), 0.03),
            (near(0.93, 0.01), near(0.08, 0.04), 0.01),
            (near(0.86, 0.02), near(0.5, 0.1), 0.06),
            (near(0.7, 0.04), near(0.7, 0.1), 0.03),
        ]
    ]
    inside = []
    for _ in range(random.integers(5, 10)):
        distance, turn = 0.62 * random.random() ** 0.5, near(0, np.pi)
        place = (x + a * distance * np.cos(turn), y + b * distance * np.sin(turn))
        inside.append(Ellipse(*place, near(0.1, 0.06), near(0.1, 0.06), near(0, 1.5), near(0.6, 0.3), 0.03))
    dark = near(0.15, 0.08)
    for side in (-1, 1):
        inside.append(
            Ellipse(
                x + side * near(0.11, 0.03),
                y + near(-0.05, 0.05),
                near(0.07, 0.02),
                near(0.24, 0.05),
                side * near(0.3, 0.2),
                dark,
            )
        )
    return shells + inside
