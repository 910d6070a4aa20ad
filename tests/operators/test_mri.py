"""MRI against a direct Fourier matrix, and its mask against fastMRI's rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.operators.mri import MRI, column_mask


def centred_dft(size: int) -> np.ndarray:
    """Unitary DFT with index size // 2 as the origin, from its definition."""
    n = np.arange(size) - size // 2
    return np.exp(-2j * np.pi * np.outer(n, n) / size) / np.sqrt(size)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (6, 10), (7, 9), (5, 8)])
def test_equals_the_direct_transform(height, width):
    mri = MRI((2, height, width), acceleration=2, dtype=torch.float64)
    x = torch.randn(3, 2, height, width, dtype=torch.float64)
    image = (x[:, 0] + 1j * x[:, 1]).numpy()
    rows, columns, mask = centred_dft(height), centred_dft(width), mri.mask.numpy()

    expected = rows @ image @ columns.T * mask
    y = mri(x)
    np.testing.assert_allclose(y[:, 0] + 1j * y[:, 1], expected, atol=1e-12)

    expected = rows.conj().T @ (image * mask) @ columns.conj()
    back = mri.adjoint(x)
    np.testing.assert_allclose(back[:, 0] + 1j * back[:, 1], expected, atol=1e-12)


def test_equals_the_shifted_fft_at_full_size():
    mri = MRI()
    x = torch.randn(2, *mri.image_shape)
    axes = (-2, -1)
    image = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), axes)
    expected = torch.fft.fftshift(torch.fft.fft2(image, norm="ortho"), axes) * mri.mask
    y = mri(x)
    torch.testing.assert_close(torch.complex(y[:, 0], y[:, 1]), expected)


@pytest.mark.parametrize(("acceleration", "centre"), [(4, 26), (8, 13)])
def test_mask_follows_fastmri(acceleration, centre):
    masks = torch.stack([column_mask(320, acceleration, 0.32 / acceleration, seed) for seed in range(200)])
    start = (320 - centre + 1) // 2
    assert masks[:, start : start + centre].all()
    assert not masks[:, start - 1].all() and not masks[:, start + centre].all()
    assert masks.sum(dim=1).double().mean().item() == pytest.approx(320 / acceleration, rel=0.02)


@pytest.mark.parametrize(("acceleration", "centre"), [(4, 26), (8, 13)])
def test_default_centre_is_fastmris(acceleration, centre):
    """0.08 of 320 columns at 4x, 0.04 at 8x, and no other column in every mask (Zbontar et al., 2018, section 4.9)."""
    masks = torch.stack([MRI((2, 1, 320), acceleration, seed=seed).mask for seed in range(40)])
    start = (320 - centre + 1) // 2
    assert masks.bool().all(dim=0).nonzero().flatten().tolist() == list(range(start, start + centre))


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_no_acceleration_measures_every_column(width):
    assert all(column_mask(width, 1, centre / width, seed=0).all() for centre in range(width + 1))


def test_mask_needs_no_centre():
    assert column_mask(1000, 4, 0, seed=0).double().mean().item() == pytest.approx(0.25, abs=0.05)


def test_defaults_are_fastmri_knees():
    mri = MRI()
    assert mri.image_shape == mri.measurement_shape == (2, 320, 320)
    assert torch.equal(mri.mask, column_mask(320, 4, 0.08, seed=0).float())


@pytest.mark.parametrize("acceleration", [1, 8])
def test_accelerations_at_the_limits(acceleration):
    mri = MRI((2, 3, 8), acceleration, center_fraction=0)
    assert torch.equal(mri.mask, column_mask(8, acceleration, 0, seed=0).float())


def test_noise_is_where_columns_are_measured():
    mri = MRI((2, 3, 8), acceleration=2)
    measured = mri.mask.bool()
    noise = mri.where_measured(torch.full((5, *mri.measurement_shape), 1.5))
    assert 0 < measured.sum() < 8
    assert (noise[..., measured] == 1.5).all() and not noise[..., ~measured].any()


def test_mask_is_the_seeds_and_the_projection_is_idempotent():
    assert torch.equal(MRI(seed=3).mask, MRI(seed=3).mask)
    assert not torch.equal(MRI(seed=3).mask, MRI(seed=4).mask)
    mri = MRI((2, 16, 24), dtype=torch.float64)
    y = mri(torch.randn(1, 2, 16, 24, dtype=torch.float64))
    torch.testing.assert_close(mri(mri.adjoint(y)), y)


def test_conversion_keeps_the_phase():
    x = torch.randn(1, 2, 6, 9)
    mri = MRI((2, 6, 9), center_fraction=0.1)
    expected = mri(x).double()
    torch.testing.assert_close(mri.to(torch.float64)(x.double()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"image_shape": (1, 8, 8)},
        {"acceleration": 0.5},
        {"acceleration": 321},
        {"acceleration": 4, "center_fraction": 0.5},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"MRI got .*, expected"):
        MRI(**options)


@pytest.mark.parametrize("acceleration", [4, 8])
def test_an_exact_mask_has_as_many_columns_as_asked_for(acceleration):
    """At 320 columns the mask of seed 0 is 3.95x and 8.89x; exact ones are 4x and 8x for every seed."""
    exact = [MRI((2, 1, 320), acceleration, seed=seed, exact=True) for seed in range(30)]
    assert {each.acceleration for each in exact} == {acceleration}
    centre = round(0.32 / acceleration * 320)
    always = torch.stack([each.mask for each in exact]).bool().all(dim=0)
    assert always.sum() == centre  # and no other column is in all of them
    drawn = MRI((2, 1, 320), acceleration)
    assert drawn.acceleration == pytest.approx({4: 3.95, 8: 8.89}[acceleration], abs=0.005)
    assert drawn.acceleration == 320 / float(drawn.mask.sum())


# A mask for each volume


def per_volume(**options):
    return MRI((2, 16, 24), acceleration=4, exact=True, masks="volume", dtype=torch.float64, **options)


def test_each_volume_has_a_mask_of_its_own():
    operator = per_volume()
    masks = [operator.drawn(number).mask for number in range(20)]
    assert all(mask.sum() == 6 and mask[12] == 1 for mask in masks)  # 24 / 4 columns, 2 in the centre
    assert len({tuple(mask.tolist()) for mask in masks}) > 10
    assert torch.equal(operator.drawn(3).mask, masks[3])
    assert not torch.equal(per_volume(seed=1).drawn(3).mask, masks[3])


def test_a_suite_has_one_mask():
    operator = MRI((2, 16, 24))
    measurement = torch.randn(2, 2, 16, 24)
    assert operator.drawn(3) is operator and operator.seen_in(measurement) is operator
    with pytest.raises(ValueError, match="expected one of suite, volume"):
        MRI((2, 16, 24), masks="slice")


def test_a_batch_of_volumes_goes_by_each_ones_mask():
    """The same numbers as one operator per image, whose mask is the suite's, gives one by one; gradients too."""
    operator = per_volume()
    random = torch.Generator().manual_seed(0)
    truth, image = torch.randn(2, 3, 2, 16, 24, generator=random, dtype=torch.float64)
    image.requires_grad_()
    alone = [operator.drawn(number) for number in range(3)]
    measurement = torch.cat([each(x[None]) for each, x in zip(alone, truth, strict=True)])
    seen = operator.seen_in(measurement)
    assert torch.equal(seen.mask[:, 0], torch.stack([each.mask for each in alone]))
    calls = operator.calls.adjoint
    descent = operator.descent(image, measurement)
    assert operator.calls.adjoint == calls + 1

    def by_fft(x, mask):
        """A^T A x by numpy."""
        whole = np.fft.ifftshift(x[0] + 1j * x[1])
        spectrum = np.fft.fftshift(np.fft.fft2(whole)) * mask
        back = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum)))
        return np.stack((back.real, back.imag))

    difference = (truth - image).detach().numpy()
    expected = np.stack([by_fft(x, each.mask.numpy()) for x, each in zip(difference, alone, strict=True)])
    assert np.abs(descent.detach().numpy() - expected).max() < 1e-12
    estimate = np.stack([by_fft(x, each.mask.numpy()) for x, each in zip(truth.numpy(), alone, strict=True)])
    assert np.abs(operator.initial_estimate(measurement).numpy() - estimate).max() < 1e-12
    assert torch.autograd.gradcheck(lambda x: operator.descent(x, measurement), (image,), fast_mode=True)
