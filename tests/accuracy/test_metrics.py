"""PSNR and SSIM against their definitions and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.accuracy.metrics import Metrics

IMAGE = torch.rand(3, 2, 24, 20, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(3, 2, 24, 20, generator=torch.Generator().manual_seed(1))
NOISY = IMAGE + torch.tensor([0.01, 0.1, 0.3]).view(3, 1, 1, 1) * NOISE


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_psnr_is_its_definition_image_by_image(data_range):
    error = (NOISY - IMAGE).double().square().mean(dim=(1, 2, 3))
    expected = 10 * torch.log10(data_range**2 / error)
    assert Metrics(data_range, "image").psnr_db(NOISY, IMAGE).double() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_scikit_images_of_reflected_borders(data_range):
    expected = [
        structural_similarity(
            *(np.pad(part[n].numpy(), [(0, 0), (5, 5), (5, 5)], mode="reflect") for part in (NOISY, IMAGE)),
            data_range=data_range,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for n in range(3)
    ]
    assert Metrics(data_range, "image").ssim(NOISY, IMAGE).tolist() == pytest.approx(expected, abs=1e-4)


def test_the_real_channel_does_not_see_the_other():
    other = IMAGE.clone()
    other[:, 1] += 1
    real, image = Metrics(2.0, "real"), Metrics(2.0, "image")
    assert real.psnr_db(other, IMAGE).min() > 100
    assert torch.equal(real.psnr_db(NOISY, IMAGE), image.psnr_db(NOISY[:, :1], IMAGE[:, :1]))
    assert torch.equal(real.ssim(NOISY, IMAGE), image.ssim(NOISY[:, :1], IMAGE[:, :1]))


def test_the_magnitude_does_not_see_the_phase():
    complex_image = torch.view_as_complex(IMAGE.movedim(1, -1).contiguous())
    turned = torch.view_as_real(complex_image * torch.polar(torch.tensor(1.0), torch.tensor(2.0))).movedim(-1, 1)
    magnitude, image = Metrics(1.0, "magnitude"), Metrics(1.0, "image")
    assert magnitude.psnr_db(turned, IMAGE).min() > 100
    assert magnitude.ssim(turned, IMAGE).tolist() == pytest.approx([1, 1, 1])
    assert image.psnr_db(turned, IMAGE).max() < 10
    absolute = IMAGE.norm(dim=1, keepdim=True), NOISY.norm(dim=1, keepdim=True)
    assert torch.equal(magnitude.psnr_db(NOISY, IMAGE), image.psnr_db(absolute[1], absolute[0]))


def test_the_range_of_an_image_is_its_own():
    """dival's convention for LoDoPaB-CT: largest minus smallest value of each true image."""
    own = Metrics(2.0, "image", "image")
    for n in range(3):
        extent = float(IMAGE[n].max() - IMAGE[n].min())
        one = Metrics(extent, "image")
        pair = NOISY[n : n + 1], IMAGE[n : n + 1]
        assert float(own.psnr_db(NOISY, IMAGE)[n]) == pytest.approx(float(one.psnr_db(*pair)), abs=1e-4)
        assert float(own.ssim(NOISY, IMAGE)[n]) == pytest.approx(float(one.ssim(*pair)), abs=1e-5)


def test_fastmris_evaluation_is_scikit_images_of_each_volume():
    """fastMRI's evaluate.py: magnitudes, range the volume's largest, SSIM as scikit-image has it by default."""
    fastmri = Metrics(1.0, "magnitude", "volume", "uniform")
    psnr_db, ssim = fastmri.of_volumes(NOISY, IMAGE, ["knee", "other", "knee"])
    magnitudes = {name: np.linalg.norm(part.numpy(), axis=1) for name, part in (("noisy", NOISY), ("image", IMAGE))}
    for place, slices in enumerate(([0, 2], [1])):
        noisy, image = magnitudes["noisy"][slices], magnitudes["image"][slices]
        assert psnr_db[place] == pytest.approx(peak_signal_noise_ratio(image, noisy, data_range=image.max()), abs=1e-4)
        expected = [structural_similarity(a, b, data_range=image.max()) for a, b in zip(image, noisy, strict=True)]
        assert ssim[place] == pytest.approx(np.mean(expected), abs=1e-6)
