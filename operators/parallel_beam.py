"""The geometry behind ``operators.radon``: which pixels meet which rays, how strongly, and what symmetry saves.

An entry of A is a hat L((<p, n> - s) / c) of an argument that is affine in the pixel's position along an image line
(the ray held fixed) and in the detector cell (pixel and angle held fixed). So the rows of A and those of A^T are
written down by the same few lines of code, with no transposition or sorting.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .equivariant import Integers, Orbits, SparseRows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hats:
    """Matrix rows made of hats: on each of several lines, the whole numbers i with |i - centre| <= half_width.

    All arrays broadcast to [rows, lines]. On its line, position i is the matrix column start + stride i and has the
    weight height * L((i - centre) / half_width).
    """

    centre: Floats
    half_width: Floats
    height: Floats
    start: Integers
    stride: Integers
    length: int

    def spans(self) -> tuple[Integers, Integers]:
        """First position on each line, and how many positions from there on, [rows, lines] each."""
        first = np.maximum(np.ceil(self.centre - self.half_width), 0)
        last = np.minimum(np.floor(self.centre + self.half_width), self.length - 1)
        return first.astype(np.int64), np.maximum(last - first + 1, 0).astype(np.int64)


@dataclass(frozen=True)
class ParallelBeam:
    """Pixels, rays, the matrix A between them (formula: ``operators.radon.Radon``) and its symmetries.

    Pixels are numbered row by row from the top, rays angle by angle, then along the detector.

    Attributes:
        image_size: N.
        detectors: D, over the image's diagonal.
        angles: over [0, pi).
        extent: side of the image in metres.
        half_angles: angle j is (j + 1/2) pi / angles instead of j pi / angles.
    """

    image_size: int
    detectors: int
    angles: int
    extent: float
    half_angles: bool = False

    @property
    def side(self) -> float:
        """h, the side of a pixel in metres."""
        return self.extent / self.image_size

    @property
    def cell(self) -> float:
        """The width of a detector cell in pixels."""
        return math.sqrt(2) * self.image_size / self.detectors

    def rays(self, rays: Integers) -> Hats:
        """The rows of A at the given rays: a ray crosses each line of pixels along its major axis in one hat."""
        middle = (self.image_size - 1) / 2
        angle, cell = np.divmod(rays[:, np.newaxis], self.detectors)
        s = (cell - (self.detectors - 1) / 2) * self.cell
        n_x, n_row = (component[angle] for component in self._normals())
        along_x = np.abs(n_x) >= np.abs(n_row)
        n_along, n_across = np.where(along_x, n_x, n_row), np.where(along_x, n_row, n_x)
        line = np.arange(self.image_size)
        return Hats(
            centre=(s - (line - middle) * n_across) / n_along + middle,
            half_width=np.ones(1),
            height=self.side / np.abs(n_along),
            start=line * np.where(along_x, self.image_size, 1),
            stride=np.where(along_x, 1, self.image_size),
            length=self.image_size,
        )

    def pixels(self, pixels: Integers) -> Hats:
        """The rows of A^T at the given pixels: at each angle a pixel casts one hat on the detector."""
        row, column = np.divmod(pixels[:, np.newaxis], self.image_size)
        middle = (self.image_size - 1) / 2
        n_x, n_row = self._normals()
        c = np.maximum(np.abs(n_x), np.abs(n_row))
        s = (column - middle) * n_x + (row - middle) * n_row
        return Hats(
            centre=s / self.cell + (self.detectors - 1) / 2,
            half_width=c / self.cell,
            height=self.side / c,
            start=np.arange(self.angles) * self.detectors,
            stride=np.ones(1, dtype=np.int64),
            length=self.detectors,
        )

    def pixel_orbits(self) -> Orbits:
        """What the symmetries do to the pixels."""
        N = self.image_size
        row, column = np.divmod(np.arange(N * N), N)
        x, y = 2 * column - (N - 1), (N - 1) - 2 * row  # twice the coordinates, which are whole numbers

        def image(mirror: int, quarters: int) -> Integers:
            u, v = x, mirror * y
            for _ in range(quarters):
                u, v = -v, u
            pixel: Integers = ((N - 1) - v) // 2 * N + ((N - 1) + u) // 2
            return pixel

        return Orbits(np.stack([image(*symmetry) for symmetry in self._symmetries()], axis=1))

    def ray_orbits(self) -> Orbits:
        """What the symmetries do to the rays."""
        angle, cell = np.divmod(np.arange(self.angles * self.detectors), self.detectors)

        def image(mirror: int, quarters: int) -> Integers:
            mirrored = mirror * angle - (1 if self.half_angles and mirror < 0 else 0)  # -(j + 1/2) = -(j + 1) + 1/2
            half_turns, turned = np.divmod(mirrored + quarters * self.angles // 2, self.angles)
            ray: Integers = turned * self.detectors + np.where(half_turns % 2 == 1, self.detectors - 1 - cell, cell)
            return ray

        return Orbits(np.stack([image(*symmetry) for symmetry in self._symmetries()], axis=1))

    def _symmetries(self) -> Iterator[tuple[int, int]]:
        """Each as (mirror, quarters): y -> mirror * y, then so many quarter turns."""
        step = 2 if self.angles % 2 else 1
        return ((mirror, quarters) for mirror in (1, -1) for quarters in range(0, 4, step))

    def _normals(self) -> tuple[Floats, Floats]:
        """Each n, [angles] each: its component along x and, since rows count downwards, minus that along y."""
        theta = (np.arange(self.angles) + 0.5 * self.half_angles) * (math.pi / self.angles)
        return np.cos(theta), -np.sin(theta)


def hat_rows(hats_at: Callable[[Integers], Hats], rows: Integers, dtype: torch.dtype) -> SparseRows:
    """The matrix rows of the given numbers, from ``ParallelBeam.rays`` or ``ParallelBeam.pixels``."""
    columns, weights, counts = [], [], []
    for some in _chunks(rows):
        hats = hats_at(some)
        first, count = hats.spans()
        step = np.arange(count.max())
        filled = step < count[..., np.newaxis]
        position = first[..., np.newaxis] + step
        distance = np.abs(position - hats.centre[..., np.newaxis]) / hats.half_width[..., np.newaxis]
        weight = hats.height[..., np.newaxis] * (1 - distance)
        column = hats.start[..., np.newaxis] + hats.stride[..., np.newaxis] * position
        columns.append(column[filled].astype(np.int32))
        weights.append(torch.from_numpy(weight[filled]).to(dtype))
        counts.append(count.sum(axis=1))
    ends = np.concatenate([[0], *counts]).cumsum().astype(np.int32)
    return SparseRows(torch.from_numpy(np.concatenate(columns)), torch.cat(weights), torch.from_numpy(ends))


def unfilled_rows(entries: int, rows: int, dtype: torch.dtype, device: str = "meta") -> SparseRows:
    """What ``hat_rows`` would return for so many rows with so many entries in all, without values.

    They are on the meta device, or have any numbers on the CPU.
    """
    return SparseRows(
        columns=torch.empty(entries, dtype=torch.int32, device=device),
        weights=torch.empty(entries, dtype=dtype, device=device),
        ends=torch.empty(rows + 1, dtype=torch.int32, device=device),
    )


@functools.lru_cache(maxsize=2)
def orbits(geometry: ParallelBeam) -> tuple[Orbits, Orbits]:
    """Of the pixels and of the rays; remembered, since a recording builds the same operator for every batch."""
    return geometry.pixel_orbits(), geometry.ray_orbits()


@functools.lru_cache(maxsize=8)
def entries(geometry: ParallelBeam) -> tuple[int, int]:
    """How many entries are stored of A and of A^T: in the rows of one ray, and of one pixel, of each orbit."""
    pixels, rays = orbits(geometry)
    of_rays = (geometry.rays(some).spans() for some in _chunks(rays.representatives))
    of_pixels = (geometry.pixels(some).spans() for some in _chunks(pixels.representatives))
    return sum(int(count.sum()) for _, count in of_rays), sum(int(count.sum()) for _, count in of_pixels)


def _chunks(rows: Integers, size: int = 256) -> Iterator[Integers]:
    """The rows in pieces whose arrays stay in the processor's cache."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
