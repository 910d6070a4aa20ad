"""Lorenz-96: states of a chaotic system from what is seen of it a little later (Lorenz, 1996)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .again import check_marching, march
from .nonlinear import NonlinearOperator

LARGEST_STATE = 16.0
"""States of the attractor are smaller at a forcing of 8; an image of 1 is this, and larger values are cut off."""

_LARGEST_RATE = 2.0
"""Times the time step: Runge and Kutta's method is stable up to 2.785, for states that do not change meanwhile."""


class Lorenz96(NonlinearOperator):
    """Some variables of each row's state, seen after each of several time steps.

    dz_i / dt = (z_{i+1} - z_{i-2}) z_{i-1} - z_i + F,   i modulo n,

    by the classical method of Runge and Kutta. An image has one state z = 16 x per row, with x kept in [-1, 1]; rows do
    not mix. In a Hovmoeller diagram, where each row is the state one window later, they follow from one another.

    (A x)_{t, w} = scale z_w(t dt) / 16 at every `observe_every`-th variable,   t = 1 ... steps.

    Gradients grow with the window as perturbations do, twofold in about 0.4 units of time.

    Args:
        variables: n.
        windows: rows of the image.
        steps: T, time steps, after each of which there is an observation.
        time_step: dt, in the system's units; 0.05 stands for six hours of weather.
        observe_every: 2: every second variable is seen.
        forcing: F; chaotic at 8.
        scale: of the measurement; the default gives a Jacobian whose norm is about 1 on the attractor.
        stored_every: see `operators.again.march`.
        device: of the measurement.
        dtype: of the measurement.

    Raises:
        ValueError: a time step at which the method is unstable, or sizes that make no system.
    """

    def __init__(
        self,
        variables: int = 40,
        windows: int = 32,
        steps: int = 10,
        time_step: float = 0.05,
        observe_every: int = 2,
        forcing: float = 8.0,
        scale: float = 0.05,
        stored_every: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if variables < 4:
            raise ValueError(f"Lorenz96 got {variables} variables, expected at least 4, so that neighbours differ")
        if not 1 <= observe_every <= variables:
            raise ValueError(f"Lorenz96 got observe_every {observe_every}, expected 1 to {variables}")
        check_marching("Lorenz96", steps, stored_every)
        # Around a constant state z the fastest disturbance, of alternating sign, decays at the rate 2 z + 1.
        limit = _LARGEST_RATE / (2 * LARGEST_STATE + 1)
        if not 0 < time_step <= limit:
            raise ValueError(
                f"Lorenz96 got time_step {time_step}, which is unstable for states up to {LARGEST_STATE:g}: choose "
                f"more than 0 and at most {limit:.4f}"
            )
        observed = -(-variables // observe_every)
        super().__init__((1, windows, variables), (steps, windows, observed), device, dtype)
        self.steps, self.time_step, self.observe_every = steps, time_step, observe_every
        self.forcing, self.scale, self.stored_every = forcing, scale, stored_every

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """The first observation, [B, 1, windows, variables]: in between, the variable seen before, unchanged."""
        first = measurement[:, :1] / self.scale
        return first.repeat_interleave(self.observe_every, dim=-1)[..., : self.image_shape[-1]].contiguous()

    def _apply_forward(self, image: Tensor) -> Tensor:
        state = LARGEST_STATE * image[:, 0].clamp(-1, 1)
        seen = march(self._segment, (), (state,), self.steps, self.stored_every)
        return torch.cat(seen, dim=1) * (self.scale / LARGEST_STATE)

    def _segment(self, first: int, last: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return partial(self._marched, last - first)

    def _marched(self, steps: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, W, n] after so many steps, and what was seen after each: [B, steps, W, observed]."""
        seen = []
        for _ in range(steps):
            state = runge_kutta(state, self.time_step, self.forcing)
            seen.append(state[..., :: self.observe_every].clone())
        return state, torch.stack(seen, dim=1)


def tendency(state: Tensor, forcing: float) -> Tensor:
    """The change of states [..., n] with time, dz / dt."""
    advected = (state.roll(-1, -1) - state.roll(2, -1)) * state.roll(1, -1)
    return advected - state + forcing


def runge_kutta(state: Tensor, time_step: float, forcing: float) -> Tensor:
    """States [..., n] one time step later, by the classical method of order 4."""
    k1 = tendency(state, forcing)
    k2 = tendency(state + time_step / 2 * k1, forcing)
    k3 = tendency(state + time_step / 2 * k2, forcing)
    k4 = tendency(state + time_step * k3, forcing)
    return state + time_step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
