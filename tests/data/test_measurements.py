"""Simulated measurements: A x plus noise of the right size, the same for everyone."""

import math

import pytest
import torch

from bench.data import MeasuredSet, Noise, load
from bench.data.attenuation import MAX_ATTENUATION
from bench.errors import UsageError
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

CASES = {
    "photographs": GaussianBlur((3, 32, 32)),
    "ct-phantoms": Radon(image_size=32, detectors=47, angles=40),
    "mri-phantoms": MRI((2, 32, 32)),
}


def measured(name, noise, seed=0, split="test"):
    operator = CASES[name]
    return MeasuredSet(load(name, split, operator.image_shape), operator, noise, seed)


@pytest.mark.parametrize("name", CASES)
def test_without_noise_it_is_the_operator(name):
    pairs = measured(name, Noise())
    image, measurement = pairs[1]
    assert torch.equal(image, pairs.images[1])
    assert torch.equal(measurement, CASES[name](image.unsqueeze(0))[0])
    assert not measurement.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_gaussian_noise_has_its_sigma(name):
    clean, noisy = measured(name, Noise()), measured(name, Noise(sigma=0.3))
    differences = torch.stack([noisy[index][1] - clean[index][1] for index in range(8)])
    if name == "mri-phantoms":
        unmeasured = CASES[name].mask == 0
        assert differences[..., unmeasured].abs().max() == 0
        differences = differences[..., ~unmeasured]
    n = differences.numel()
    assert differences.mean().item() == pytest.approx(0, abs=5 * 0.3 / math.sqrt(n))
    assert differences.std().item() == pytest.approx(0.3, rel=5 / math.sqrt(2 * n))


def test_photon_counts_are_poisson():
    """Mean and variance of the counts of one detector cell over many seeds, both equal to the expected count."""
    operator = CASES["ct-phantoms"]
    images = load("ct-phantoms", "test", operator.image_shape)
    per_metre = MAX_ATTENUATION / operator.scale
    expected = 4096 * torch.exp(-operator(images[0].unsqueeze(0))[0] * per_metre)
    draws = 200
    counts = torch.stack(
        [
            4096 * torch.exp(-MeasuredSet(images, operator, Noise(photons=4096), seed)[0][1].double() * per_metre)
            for seed in range(draws)
        ]
    )
    assert expected.min() < 1000 < expected.max()
    error = (counts.mean(0) - expected) / (expected / draws).sqrt()
    assert error.mean().abs() < 0.1 and error.std() == pytest.approx(1, abs=0.1)
    assert (counts.var(0) / expected).mean() == pytest.approx(1, abs=0.03)


def test_no_photon_is_counted_as_a_tenth():
    operator = Radon(image_size=8, detectors=13, angles=8, extent=10.0)
    images = load("ct-phantoms", "test", operator.image_shape)
    measurement = MeasuredSet(images, operator, Noise(photons=100))[0][1]
    largest = math.log(100 / 0.1) * operator.scale / MAX_ATTENUATION
    assert measurement.isfinite().all()
    assert measurement.max().item() == pytest.approx(largest, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("noise", [Noise(sigma=0.1), Noise(photons=4096)])
def test_two_loads_measure_the_same(name, noise):
    if noise.photons and name != "ct-phantoms":
        with pytest.raises(UsageError, match=r"photons with \w+, expected Radon"):
            measured(name, noise)
        return
    first, second = measured(name, noise), measured(name, noise)
    second[0]
    assert torch.equal(first[2][1], second[2][1])
    assert torch.equal(first[-1][1], second[len(second) - 1][1])


def test_the_noise_depends_on_seed_split_and_index_alone():
    def noise(name, seed, split, index):
        clean, noisy = measured(name, Noise(), seed, split), measured(name, Noise(sigma=1.0), seed, split)
        return noisy[index][1] - clean[index][1]

    reference = noise("photographs", 0, "test", 0)
    for other in [(1, "test", 0), (0, "train", 0), (0, "test", 1)]:
        assert (reference - noise("photographs", *other)).std() > 1


def test_an_operator_for_another_shape():
    with pytest.raises(UsageError, match=r"MRI is for images \[2, 32, 32\], mri-phantoms gives \[2, 16, 16\]"):
        MeasuredSet(load("mri-phantoms", "test", (2, 16, 16)), CASES["mri-phantoms"], Noise())


@pytest.mark.parametrize("values", [{"sigma": -1}, {"sigma": math.nan}, {"photons": 0}, {"photons": math.inf}])
def test_noise_that_cannot_be(values):
    with pytest.raises(UsageError, match="noise got"):
        Noise(**values)


def test_ct_measured_on_a_finer_grid_differs_by_the_grids_error_alone():
    """The same phantoms at twice the size through the same rays: no inverse crime, and the same line integrals."""
    operator = Radon(image_size=32, detectors=47, angles=40)
    finer = Radon(image_size=64, detectors=47, angles=40)
    images, fine = (load("ct-phantoms", "test", each.image_shape) for each in (operator, finer))
    pairs = MeasuredSet(images, operator, Noise(), 0, (fine, finer))
    image, measurement = pairs[2]
    assert torch.equal(image, images[2])
    exact = finer(fine[2].unsqueeze(0))[0] / finer.scale  # line integrals over metres
    torch.testing.assert_close(measurement / operator.scale, exact, rtol=1e-5, atol=1e-7)
    crime = operator(image.unsqueeze(0))[0]
    error = float((measurement - crime).norm() / crime.norm())
    assert 1e-3 < error < 0.1
    counted = MeasuredSet(images, operator, Noise(photons=1e9), 0, (fine, finer))[2][1]
    torch.testing.assert_close(counted, measurement, rtol=0, atol=2e-3 * float(measurement.max()))


def test_measurements_of_another_shape_are_refused():
    operator, other = GaussianBlur((3, 32, 32)), GaussianBlur((3, 64, 64))
    images, large = (load("photographs", "test", each.image_shape) for each in (operator, other))
    with pytest.raises(UsageError, match=r"measurements are made of shape \[3, 64, 64\] and reconstructed from"):
        MeasuredSet(images, operator, Noise(), 0, (large, other))
