"""Options of operators at their limits: what is allowed is, what is beyond is refused in a sentence, defaults stay."""

import inspect
import math

import pytest
import torch

from bench.operators.again import MOST_STEPS, check_marching
from bench.operators.blur import GaussianBlur
from bench.operators.lorenz import Lorenz96
from bench.operators.mri import MRI
from bench.operators.nonlinear import NonlinearOperator
from bench.operators.radon import Radon
from bench.operators.repeated import MOST_TIMES, Repeated
from bench.operators.seismic import MOST_BORDER, Seismic

GROUND = {"image_size": (4, 6), "steps": 3, "border": 0, "shots": 1}
STATE = {"variables": 6, "windows": 1, "steps": 2}
STABLE_SECONDS = 10.0 / (math.sqrt(2) * 4500.0)  # of a cell of 10 m and 4,500 m/s


@pytest.mark.parametrize(
    "options",
    [
        {"slowest": 0.5},
        {"spacing": 0.5, "time_step": 1e-5},
        {"frequency": 0.5},
        {"time_step": STABLE_SECONDS},
        {"shots": 6},
        {"source_row": -4},
        {"receiver_row": 3},
        {"border": MOST_BORDER},
        {"stored_every": 3},
    ],
)
def test_waves_at_their_limits(options):
    Seismic(**GROUND | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slowest": 0.0}, "velocities from 0.0"),
        ({"slowest": 4500.0}, "expected 0 < slowest < fastest"),
        ({"fastest": math.inf, "time_step": 1e-9}, "velocities from"),
        ({"spacing": math.inf}, "spacing inf, expected a positive number"),
        ({"frequency": 0.0}, r"frequency 0\.0, expected a positive number"),
        ({"time_step": STABLE_SECONDS * 1.001}, "is unstable"),
        ({"time_step": 0.0}, "is unstable"),
        ({"shots": 7}, "got 7 shots, expected 1 to 6"),
        ({"source_row": -5}, "source_row -5, expected -4 to 3"),
        ({"receiver_row": 4}, "receiver_row 4, expected -4 to 3"),
        ({"border": MOST_BORDER + 1}, "border 1001, expected 0 to 1000 cells"),
        ({"stored_every": 4}, "stored_every 4"),
    ],
)
def test_waves_beyond_their_limits(options, words):
    with pytest.raises(ValueError, match=words):
        Seismic(**GROUND | options)


@pytest.mark.parametrize("options", [{"variables": 4}, {"observe_every": 6}, {"time_step": 2 / 33}])
def test_lorenz_at_its_limits(options):
    Lorenz96(**STATE | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variables": 3}, "got 3 variables, expected at least 4"),
        ({"observe_every": 7}, "observe_every 7, expected 1 to 6"),
        ({"time_step": 2 / 33 * 1.001}, "is unstable"),
        ({"time_step": 0.0}, "is unstable"),
    ],
)
def test_lorenz_beyond_its_limits(options, words):
    with pytest.raises(ValueError, match=words):
        Lorenz96(**STATE | options)


def test_as_many_time_steps_and_times_as_may_be():
    check_marching("It", MOST_STEPS, MOST_STEPS)
    with pytest.raises(ValueError, match="It got 100001 steps, expected at least 1 and at most 100,000"):
        check_marching("It", MOST_STEPS + 1, 1)
    blur = GaussianBlur((1, 8, 8), kernel_size=3, variance=1.0)
    assert Repeated(blur, MOST_TIMES).times == 1000
    with pytest.raises(ValueError, match="times 1001, expected 1 to 1,000"):
        Repeated(blur, MOST_TIMES + 1)


@pytest.mark.parametrize(
    ("operator", "defaults"),
    [
        (
            Seismic,
            {
                **{"image_size": (64, 64), "steps": 300, "time_step": 0.001, "spacing": 10.0, "slowest": 1500.0},
                **{"fastest": 4500.0, "frequency": 15.0, "shots": 4, "source_row": 1, "receiver_row": 1},
                **{"border": 12, "scale": 0.15, "stored_every": 1},
            },
        ),
        (
            Lorenz96,
            {
                **{"variables": 40, "windows": 32, "steps": 10, "time_step": 0.05, "observe_every": 2},
                **{"forcing": 8.0, "scale": 0.05, "stored_every": 1},
            },
        ),
    ],
)
def test_defaults_are_those_of_the_published_tables(operator, defaults):
    """docs/SYSTEMS.md and docs/OPERATORS.md are of these; another default is another task."""
    parameters = inspect.signature(operator).parameters.values()
    assert {each.name: each.default for each in parameters if each.name not in ("device", "dtype")} == defaults


def test_the_window_of_filtered_backprojection():
    """cos^2(pi f / 2c) of the frequency f up to the cutoff c, in units of the detector's highest: 0 beyond."""
    radon = Radon(image_size=16, detectors=23, angles=24, dtype=torch.float64)
    sinogram = torch.rand(1, *radon.measurement_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = radon.filtered_backprojection(sinogram)
    torch.testing.assert_close(radon.filtered_backprojection(sinogram, math.inf), plain, rtol=0, atol=0)
    lag = torch.arange(-22, 23, dtype=torch.float64)
    for cutoff in (0.5, 1.0, 2.5):
        # The window's own kernel, by the trapezoidal rule over the 46 frequencies of twice 23 detectors.
        frequency = torch.arange(-23, 23, dtype=torch.float64) / 23
        window = torch.where(frequency.abs() <= cutoff, torch.cos(math.pi * frequency / (2 * cutoff)) ** 2, 0.0)
        ramp = torch.where(lag == 0, 0.25, torch.where(lag % 2 == 0, 0.0, -1 / (math.pi * lag) ** 2))
        ramp = torch.cat([ramp[22:], torch.tensor([-1 / (math.pi * 23) ** 2], dtype=torch.float64), ramp[:22]])
        turns = torch.outer(torch.arange(46), torch.arange(-23, 23)).double() / 46
        phases = 2j * math.pi * turns
        of_frequency = (ramp.unsqueeze(1) * torch.exp(-phases)).sum(0) * window
        kernel = (of_frequency * torch.exp(phases)).sum(1).real / 46
        matrix = kernel[(torch.arange(23).unsqueeze(1) - torch.arange(23)) % 46]
        pixel = radon.geometry.side * radon.scale
        expected = radon.adjoint(sinogram @ matrix.T) * (math.pi / (24 * pixel**2))
        torch.testing.assert_close(radon.filtered_backprojection(sinogram, cutoff), expected, rtol=1e-10, atol=1e-12)


def test_what_a_subclass_has_to_say_is_asked_for():
    operator = NonlinearOperator((1, 2, 2), (3,), None, torch.float32)
    with pytest.raises(NotImplementedError):
        operator(torch.zeros(1, 1, 2, 2))


def test_masks_of_volumes_follow_seed_and_number():
    masks = {
        (seed, number): MRI((2, 4, 64), seed=seed, masks="volume").drawn(number).mask.flatten()
        for seed, number in ((1, 1), (2, 0), (0, 2), (1, 0), (3, 1))
    }
    assert torch.equal(masks[1, 1], masks[2, 0]) and torch.equal(masks[1, 1], masks[0, 2])
    assert not torch.equal(masks[1, 1], masks[1, 0]) and not torch.equal(masks[1, 1], masks[3, 1])


def test_a_column_is_measured_where_anything_in_it_is():
    measurement = torch.zeros(1, 2, 4, 8)
    measurement[0, 1, 2, 5] = 0.1
    assert MRI((2, 4, 8), masks="volume").seen_in(measurement).mask.flatten().nonzero().flatten().tolist() == [5]


def test_as_many_columns_in_the_centre_as_the_acceleration_leaves():
    assert MRI((2, 4, 8), acceleration=4, center_fraction=0.25, exact=True).mask.sum() == 2


def test_what_has_one_operator_for_all_measurements_is_itself():
    blur = GaussianBlur((1, 8, 8), kernel_size=3, variance=1.0)
    assert blur.drawn(3) is blur.seen_in(torch.zeros(1, 1, 8, 8)) is blur


def test_each_shot_is_one_source():
    assert Seismic(**GROUND | {"shots": 3, "border": 2}).sources.sum(dim=(1, 2)).tolist() == [1, 1, 1]
