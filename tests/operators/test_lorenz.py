"""Lorenz-96 against scipy's integrator, its own invariants, and options that it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from bench.operators.lorenz import LARGEST_STATE, Lorenz96, runge_kutta, tendency


def on_the_attractor(variables: int = 40, rows: int = 3) -> torch.Tensor:
    state = 8 + torch.randn(rows, variables, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(500):
        state = runge_kutta(state, 0.05, 8.0)
    return state


def by_scipy(state: np.ndarray, times: list[float], forcing: float = 8.0) -> np.ndarray:
    """One state later, [times, n], to ten digits."""

    def slope(_t, z):
        n = len(z)
        return [(z[(i + 1) % n] - z[i - 2]) * z[i - 1] - z[i] + forcing for i in range(n)]

    solved = solve_ivp(slope, (0, times[-1]), state, t_eval=times, rtol=1e-10, atol=1e-12)
    return solved.y.T


def errors(time_step: float, span: float = 0.4) -> float:
    states = on_the_attractor()
    steps = round(span / time_step)
    operator = Lorenz96(
        windows=3, steps=steps, time_step=time_step, observe_every=1, scale=LARGEST_STATE, dtype=torch.float64
    )
    seen = operator((states / LARGEST_STATE)[None, None])[0]
    expected = [by_scipy(state.numpy(), [time_step * (t + 1) for t in range(steps)]) for state in states]
    return float((seen - torch.from_numpy(np.stack(expected, axis=1))).abs().max())


def test_it_approaches_scipys_solution_with_the_fourth_power_of_the_time_step():
    coarse, fine = errors(0.01), errors(0.005)
    assert fine < 1e-5
    assert coarse / fine == pytest.approx(16, rel=0.15)
    assert errors(0.05) < 0.05


def test_every_second_variable_is_seen_in_units_of_the_scale():
    states = on_the_attractor()
    options = {"windows": 3, "steps": 4, "dtype": torch.float64}
    image = (states / LARGEST_STATE)[None, None]
    everything = Lorenz96(**options, observe_every=1, scale=1.0)(image)
    assert torch.equal(Lorenz96(**options, scale=0.25)(image), 0.25 * everything[..., ::2])
    assert Lorenz96(**options, observe_every=3).measurement_shape == (4, 3, 14)


def test_a_constant_state_of_the_forcing_stays_and_others_decay():
    state = torch.full((1, 5), 8.0, dtype=torch.float64)
    assert torch.equal(tendency(state, 8.0), torch.zeros_like(state))
    later = runge_kutta(torch.full_like(state, 2.0), 0.05, 8.0)
    torch.testing.assert_close(later, torch.full_like(state, 8 - 6 * math.exp(-0.05)), rtol=1e-8, atol=0)


def test_advection_conserves_energy():
    state = on_the_attractor()
    advected = tendency(state, 0.0) + state
    assert (state * advected).sum(-1).abs().max() < 1e-11


def test_the_first_estimate_fills_in_from_the_left():
    operator = Lorenz96(variables=5, windows=1, steps=2, scale=0.5)
    measurement = torch.tensor([[[[1.0, 2.0, 3.0]], [[7.0, 8.0, 9.0]]]])
    assert operator.initial_estimate(measurement).tolist() == [[[[2.0, 2.0, 4.0, 4.0, 6.0]]]]


def test_the_default_has_a_jacobian_of_norm_about_one():
    operator = Lorenz96(windows=3, dtype=torch.float64)
    assert 0.5 < operator.norm_at((on_the_attractor() / LARGEST_STATE)[None, None]) < 1.1


def test_values_beyond_one_are_cut_off():
    operator = Lorenz96(variables=6, windows=1)
    image = torch.tensor([[[[0.1, 2.0, 0.3, -5.0, 0.2, 0.0]]]])
    assert torch.equal(operator(image), operator(image.clamp(-1, 1)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"time_step": 0.07}, "time_step 0.07, which is unstable .*: choose more than 0 and at most 0.0606"),
        ({"time_step": 0.0}, "choose more than 0"),
        ({"variables": 3}, "got 3 variables, expected at least 4"),
        ({"observe_every": 41}, "got observe_every 41, expected 1 to 40"),
        ({"steps": 0}, "got 0 steps, expected at least 1"),
        ({"stored_every": 11}, "got stored_every 11, expected 1 .* to 10"),
    ],
)
def test_what_makes_no_system_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Lorenz96(**options, device="meta")


def test_the_largest_time_step_that_is_allowed_is_stable_for_any_state_that_an_image_can_hold():
    generator = torch.Generator().manual_seed(0)
    states = LARGEST_STATE * (2 * torch.rand(2000, 40, generator=generator, dtype=torch.float64) - 1)
    for _ in range(200):
        states = runge_kutta(states, 0.0606, 8.0)
    assert states.isfinite().all() and states.abs().max() < 2 * LARGEST_STATE
