"""Seismic waves: what receivers hear of shots, as a function of the ground's velocity (full waveform inversion)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .again import check_marching, march
from .nonlinear import NonlinearOperator

MOST_BORDER = 1000
_ECHO = 1e-2
"""Of a wave that crosses the border and comes back, its amplitude where it meets the border head-on."""


class Seismic(NonlinearOperator):
    """Acoustic pressure at a row of receivers over time, one recording per shot.

    u'' = c^2 (laplacian u + s),   c = slowest + (fastest - slowest) x,

    x the image, kept in [0, 1]; s a Ricker wavelet at each shot's cell, over the cell's area. In time and space second
    differences of second order, with zeros beyond a border that absorbs: 2 g u' is added to u'', where g grows with the
    square of the depth in the border. In units of the grid, with k = (c dt / h)^2 and d = g dt,

    u+ = (2 u - (1 - d) u- + k (L u + s)) / (1 + d),   L the sum of the four neighbours minus 4 u.

    (A x)_{shot, t, receiver} = scale u(t dt),   t = 1 ... steps.

    Args:
        image_size: (H, W), cells.
        steps: T, time steps.
        time_step: dt, seconds.
        spacing: h, metres from cell to cell.
        slowest: velocity at x = 0, metres per second.
        fastest: velocity at x = 1.
        frequency: of the wavelet's peak, hertz; it is strongest 1.5 periods after the start.
        shots: sources, evenly over the columns of one row.
        source_row: theirs, from the top; from the bottom if negative.
        receiver_row: that of the receivers, one in every column.
        border: cells on each side in which waves are absorbed; 0: they are reflected.
        scale: of the measurement; the default gives a Jacobian whose norm is about 1 at the initial estimate.
        stored_every: see `operators.again.march`.
        device: of the constants.
        dtype: of the constants.

    Raises:
        ValueError: a time step at which the method is unstable, or rows and sizes that make no survey.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (64, 64),
        steps: int = 300,
        time_step: float = 0.001,
        spacing: float = 10.0,
        slowest: float = 1500.0,
        fastest: float = 4500.0,
        frequency: float = 15.0,
        shots: int = 4,
        source_row: int = 1,
        receiver_row: int = 1,
        border: int = 12,
        scale: float = 0.15,
        stored_every: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        height, width = image_size
        if not 0 < slowest < fastest < math.inf:
            raise ValueError(f"Seismic got velocities from {slowest} to {fastest}, expected 0 < slowest < fastest")
        for name, value in (("spacing", spacing), ("frequency", frequency)):
            if not 0 < value < math.inf:
                raise ValueError(f"Seismic got {name} {value}, expected a positive number")
        check_marching("Seismic", steps, stored_every)
        limit = spacing / (math.sqrt(2) * fastest)
        if not 0 < time_step <= limit:
            raise ValueError(
                f"Seismic got time_step {time_step} s, which is unstable: choose more than 0 and at most "
                f"spacing / (sqrt(2) fastest) = {limit:.3g} s"
            )
        if not 1 <= shots <= width:
            raise ValueError(f"Seismic got {shots} shots, expected 1 to {width}, a column for each")
        for name, row in (("source_row", source_row), ("receiver_row", receiver_row)):
            if not -height <= row < height:
                raise ValueError(f"Seismic got {name} {row}, expected {-height} to {height - 1}")
        if not 0 <= border <= MOST_BORDER:
            raise ValueError(f"Seismic got border {border}, expected 0 to {MOST_BORDER} cells")
        super().__init__((1, height, width), (shots, steps, width), device, dtype)
        self.steps, self.stored_every, self.scale, self.border = steps, stored_every, scale, border
        self.slowest, self.fastest = slowest, fastest
        self.courant = time_step / spacing
        self.source_columns = [(2 * shot + 1) * width // (2 * shots) for shot in range(shots)]
        self.receiver_row = receiver_row % height
        self.wavelet = ricker(frequency, time_step, steps)
        damping = time_step * damping_of(height, width, border, spacing, fastest)
        self.inverse: Tensor
        self.sources: Tensor
        self.ahead: Tensor
        self.back: Tensor
        sources = torch.zeros(shots, *damping.shape, dtype=torch.float64)
        for shot, column in enumerate(self.source_columns):
            sources[shot, border + source_row % height, border + column] = 1
        self._constant("inverse", (1 / (1 + damping)).to(self._like))
        self._constant("ahead", (2 / (1 + damping)).to(self._like))
        self._constant("back", (-(1 - damping) / (1 + damping)).to(self._like))
        self._constant("sources", sources.to(self._like))

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """Velocity that grows with depth from the slowest to the fastest, whatever was measured: [B, 1, H, W]."""
        _, height, width = self.image_shape
        depth = torch.linspace(0, 1, height, device=measurement.device, dtype=measurement.dtype)
        return depth.view(1, 1, height, 1).repeat(measurement.shape[0], 1, 1, width)

    def _apply_forward(self, image: Tensor) -> Tensor:
        velocity = self.slowest + (self.fastest - self.slowest) * image.clamp(0, 1)
        squared = (velocity * self.courant).square()
        if self.border:
            squared = F.pad(squared, 4 * (self.border,), mode="replicate")
        k = squared * self.inverse
        rest = k.new_zeros(image.shape[0], *self.sources.shape)
        heard = march(self._segment, (k,), (rest, rest), self.steps, self.stored_every)
        return torch.cat(heard, dim=2) * self.scale

    def _segment(self, first: int, last: int) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        return partial(self._marched, self.wavelet[first:last])

    def _marched(self, wavelet: list[float], k: Tensor, before: Tensor, now: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last two states after a part of the wavelet, [B, S, *grid], and what was heard: [B, S, steps, W]."""
        heard = []
        row, columns = self.border + self.receiver_row, slice(self.border, self.border + self.image_shape[-1])
        for amplitude in wavelet:
            before, now = now, self._next(k, before, now, amplitude)
            heard.append(now[:, :, row, columns].clone())
        return before, now, torch.stack(heard, dim=2)

    def _next(self, k: Tensor, before: Tensor, now: Tensor, amplitude: float) -> Tensor:
        """The state after `now`, [B, S, *grid]; k, [B, 1, *grid], is divided by 1 + d."""
        around = F.pad(now, (1, 1, 1, 1))
        curved = around[..., 2:, 1:-1] + around[..., :-2, 1:-1]
        curved = curved + around[..., 1:-1, 2:]
        curved = curved + around[..., 1:-1, :-2]
        curved = torch.sub(curved, now, alpha=4)
        if amplitude:
            curved = torch.add(curved, self.sources, alpha=amplitude)
        alone = torch.addcmul(self.back * before, self.ahead, now)
        return torch.addcmul(alone, k, curved)


def ricker(frequency: float, time_step: float, steps: int) -> list[float]:
    """(1 - 2 a) exp(-a), a = (pi f (t - 1.5 / f))^2, at t = 0, dt, ...; Ricker's wavelet with its peak at 1.5 / f."""
    squares = [(math.pi * (frequency * step * time_step - 1.5)) ** 2 for step in range(steps)]
    return [(1 - 2 * square) * math.exp(-square) for square in squares]


def damping_of(height: int, width: int, border: int, spacing: float, fastest: float) -> Tensor:
    """Damping g, 1/s, on the grid with its border, float64 [H + 2 border, W + 2 border]: quadratic in the border.

    The integral of 2 g / c over the way in and out again is the logarithm of the amplitude that comes back.
    """
    depths = []
    for size in (height, width):
        places = torch.arange(-border, size + border, dtype=torch.float64)
        depths.append(torch.maximum(-places, places - (size - 1)).clamp(min=0))
    deepest = torch.maximum(depths[0][:, None], depths[1])
    if not border:
        return deepest
    strongest = -1.5 * fastest * math.log(_ECHO) / (border * spacing)
    return strongest * (deepest / border) ** 2
