"""Seismic waves: another library, reciprocity, energy, travel times, and time steps that are refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bench.operators.seismic import Seismic, damping_of, ricker

SMALL = {"image_size": (30, 34), "steps": 120, "border": 0, "shots": 2, "dtype": torch.float64}


def ground(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth, [1, 1, H, W], strictly between 0 and 1."""
    coarse = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.1 + 0.8 * F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)


def test_deepwave_hears_the_same():
    """deepwave.scalar 0.1.0 (github.com/ar4/deepwave), second order: its source is -s, and it records a step later."""
    deepwave = pytest.importorskip("deepwave")
    options = SMALL | {"time_step": 0.0009, "source_row": 5, "receiver_row": 9, "steps": 90}
    operator = Seismic(**options, scale=1.0)
    image = ground(30, 34)
    ours = operator(image)[0]
    velocity = 1500 + 3000 * image[0, 0]
    shots = len(operator.source_columns)
    sources = torch.tensor([[[5, column]] for column in operator.source_columns])
    receivers = torch.tensor([[[9, column] for column in range(34)]] * shots)
    wavelet = -torch.tensor(operator.wavelet, dtype=torch.float64).repeat(shots, 1, 1) / 10.0**2
    heard = deepwave.scalar(
        velocity,
        10.0,
        0.0009,
        source_amplitudes=wavelet,
        source_locations=sources,
        receiver_locations=receivers,
        accuracy=2,
        pml_width=40,
        pml_freq=15.0,
    )[-1]
    # Without border ours reflects: what has not yet met an edge is compared.
    inner = slice(12, 22)
    theirs, mine = heard.movedim(-1, 1)[:, 1:41, inner], ours[:, :40, inner]
    assert mine.abs().max() > 1e-7
    assert (mine - theirs).abs().max() < 1e-6 * mine.abs().max()


def test_reciprocity():
    """What shot a sends to the cell of shot b is what b sends to that of a, whatever lies between."""
    operator = Seismic(**SMALL | {"border": 6, "shots": 3})
    heard = operator(ground(30, 34))[0]
    a, b, c = operator.source_columns
    torch.testing.assert_close(heard[0, :, b], heard[1, :, a], rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(heard[0, :, c], heard[2, :, a], rtol=1e-10, atol=1e-15)
    assert not torch.allclose(heard[0, :, b], heard[2, :, b], rtol=1e-3)


def test_energy_is_conserved_without_a_border_and_without_sources():
    operator = Seismic(**SMALL)
    k = ((operator.slowest + 3000 * ground(30, 34)) * operator.courant).square()
    before = torch.randn(1, 2, 30, 34, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    now = before.clone()

    def energy(before: torch.Tensor, now: torch.Tensor) -> float:
        p = F.pad(now, (1, 1, 1, 1))
        curved = p[..., 2:, 1:-1] + p[..., :-2, 1:-1] + p[..., 1:-1, 2:] + p[..., 1:-1, :-2] - 4 * now
        return float(((now - before).square() / k).sum() - (before * curved).sum())

    first = energy(before, now)
    for _ in range(200):
        before, now = now, operator._next(k, before, now, 0.0)
    assert energy(before, now) == pytest.approx(first, rel=1e-11)
    assert (now - before).abs().max() > 0.1


def test_a_wave_of_one_dimension_moves_exactly_as_the_discrete_dispersion_relation_says():
    """Columns all alike: a standing wave sin(pi m z / (H + 1)) turns by 2 arcsin(c dt / h sin(pi m / (2 (H + 1))))."""
    operator = Seismic(image_size=(31, 400), steps=1, border=0, shots=1, dtype=torch.float64)
    mode = (
        torch.sin(math.pi * 3 * torch.arange(1, 32, dtype=torch.float64) / 32).view(1, 1, 31, 1).expand(1, 1, 31, 400)
    )
    k = torch.full((1, 1, 31, 400), (3000 * operator.courant) ** 2, dtype=torch.float64)
    angle = 2 * math.asin(3000 * operator.courant * math.sin(math.pi * 3 / 64))
    before, now = mode * math.cos(-angle), mode
    for _ in range(50):
        before, now = now, operator._next(k, before, now, 0.0)
    middle = (0, 0, slice(None), 200)  # 50 steps from the sides, which it cannot have met
    torch.testing.assert_close(now[middle], mode[middle] * math.cos(50 * angle), rtol=1e-10, atol=1e-12)


def test_the_first_arrival_comes_when_the_distance_says():
    """From top to bottom through a homogeneous ground: the peak of the envelope travels at c."""
    operator = Seismic(
        image_size=(60, 21), steps=400, receiver_row=-2, border=15, shots=1, frequency=20.0, dtype=torch.float64
    )
    image = torch.full((1, 1, 60, 21), 0.5, dtype=torch.float64)
    heard = operator(image)[0, 0, :, 10]
    arrival = int((heard.abs() > 0.02 * heard.abs().max()).nonzero()[0]) * 0.001
    at_source = int((torch.tensor(operator.wavelet).abs() > 0.02).nonzero()[0]) * 0.001
    assert arrival - at_source == pytest.approx(57 * 10 / 3000, abs=0.012)


def test_the_border_absorbs():
    """Late recordings, when every wave has met an edge, are those of a much larger ground more or less."""
    options = {"image_size": (20, 20), "steps": 250, "shots": 1, "dtype": torch.float64}
    image = torch.full((1, 1, 20, 20), 0.5, dtype=torch.float64)
    far = Seismic(**options, border=150)(image)
    near, none = Seismic(**options, border=12)(image), Seismic(**options, border=0)(image)
    assert (near - far).norm() < 0.15 * far.norm() < 0.25 * (none - far).norm()


def test_damping_grows_with_the_square_of_the_depth():
    g = damping_of(4, 5, 3, 10.0, 2000.0)
    strongest = -1.5 * 2000 * math.log(1e-2) / 30
    assert g.shape == (10, 11)
    assert not g[3:-3, 3:-3].any()
    expected = torch.tensor([9.0, 4.0, 1.0, 0.0], dtype=torch.float64) / 9 * strongest
    torch.testing.assert_close(g[:4, 5], expected)
    torch.testing.assert_close(g[5, -4:], expected.flip(0))
    assert not damping_of(4, 5, 0, 10.0, 2000.0).any()


def test_rickers_wavelet():
    wavelet = ricker(20.0, 0.001, 200)
    assert wavelet[75] == 1.0 == max(wavelet)  # 1.5 periods of 50 ms
    assert abs(sum(wavelet)) < 1e-3 * sum(map(abs, wavelet))  # no mean
    zero = 75 + 1000 / (math.sqrt(2) * math.pi * 20)
    assert wavelet[int(zero)] > 0 > wavelet[int(zero) + 1]


def test_the_survey():
    operator = Seismic(image_size=(8, 10), shots=2, steps=5, border=1, source_row=-1, receiver_row=2)
    assert operator.source_columns == [2, 7]
    assert operator.sources.nonzero().tolist() == [[0, 8, 3], [1, 8, 8]]
    assert operator.measurement_shape == (2, 5, 10)
    start = operator.initial_estimate(torch.zeros(3, 2, 5, 10))
    assert start.shape == (3, 1, 8, 10)
    torch.testing.assert_close(start[1, 0, :, 4], torch.arange(8) / 7)


def test_velocities_beyond_the_range_are_cut_off():
    operator = Seismic(image_size=(6, 6), steps=40, shots=1, border=2, frequency=40.0)
    image = 3 * torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(operator(image), operator(image.clamp(0, 1)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"time_step": 0.0016}, r"time_step 0.0016 s, which is unstable: choose .* at most .* = 0.00157 s"),
        ({"fastest": 8000.0}, r"time_step 0.001 s, which is unstable: choose .* at most .* = 0.000884 s"),
        ({"time_step": 0.0}, "choose more than 0"),
        ({"slowest": 5000.0}, "got velocities from 5000.0 to 4500.0, expected 0 < slowest < fastest"),
        ({"spacing": 0.0}, "got spacing 0.0, expected a positive number"),
        ({"shots": 65}, "got 65 shots, expected 1 to 64"),
        ({"receiver_row": 64}, "got receiver_row 64, expected -64 to 63"),
        ({"border": -1}, "got border -1, expected 0 to 1000 cells"),
        ({"steps": 0}, "got 0 steps"),
        ({"stored_every": 301}, "got stored_every 301, expected 1 .* to 300"),
    ],
)
def test_what_makes_no_survey_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Seismic(**options, device="meta")


@pytest.mark.parametrize("factor", [0.999, 1.02])
def test_the_limit_of_the_time_step_is_where_waves_begin_to_grow(factor):
    """The checkerboard is the first to grow: at the limit of the fastest ground."""
    operator = Seismic(image_size=(40, 40), steps=1, border=0, shots=1, dtype=torch.float64)
    k = torch.full((1, 1, 40, 40), factor**2 / 2, dtype=torch.float64)
    before = now = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(600):
        before, now = now, operator._next(k, before, now, 0.0)
    assert (now.abs().max() < 100) == (factor < 1)
