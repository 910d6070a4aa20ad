"""Radon against scikit-image, exact projections of discs, and its own matrix without symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import radon as skimage_radon
from torch import Tensor

from bench.operators.base import without_values
from bench.operators.equivariant import SparseRows
from bench.operators.parallel_beam import hat_rows
from bench.operators.radon import Radon


def grid(size: int, side: float) -> tuple[Tensor, Tensor]:
    """x to the right, y upwards, at the pixel centres of a square of that side."""
    centre = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * side / size
    return centre.expand(size, size), -centre.unsqueeze(1).expand(size, size)


def blobs(size: int) -> Tensor:
    """A smooth image without any symmetry, well inside the square of side 2."""
    x, y = grid(size, 2)
    return sum(
        height * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2))
        for height, a, b, width in ((1.0, 0.15, 0.3, 0.2), (-0.5, -0.4, -0.1, 0.12), (0.7, 0.1, -0.45, 0.1))
    )


def relative_error(estimate: Tensor, truth: Tensor) -> float:
    return ((estimate - truth).norm() / truth.norm()).item()


def positions(radon: Radon) -> Tensor:
    """s of every detector cell, in metres."""
    geometry = radon.geometry
    cells = torch.arange(geometry.detectors, dtype=torch.float64)
    return (cells - (geometry.detectors - 1) / 2) * math.sqrt(2) * geometry.extent / geometry.detectors


@pytest.mark.parametrize("angles", [60, 45, 50])
def test_agrees_with_scikit_image(angles):
    size = 129  # odd: scikit-image's centre of rotation, pixel size // 2, is the middle
    image = blobs(size)
    radon = Radon(size, 183, angles, extent=size, normalize=False, dtype=torch.float64)
    theirs = skimage_radon(image.numpy(), np.arange(angles) * 180 / angles, circle=False)
    s = np.arange(len(theirs)) - len(theirs) // 2
    expected = torch.stack([torch.from_numpy(np.interp(positions(radon), s, column)) for column in theirs.T])
    assert relative_error(radon(image[None, None])[0, 0], expected) < 0.005


@pytest.mark.parametrize("angles", [40, 45])
def test_exact_projections_of_discs(angles):
    radon = Radon(256, 363, angles, normalize=False, dtype=torch.float64)
    x, y = grid(256, 0.26)
    image, expected = torch.zeros(256, 256, dtype=torch.float64), torch.zeros(angles, 363, dtype=torch.float64)
    theta = torch.arange(angles, dtype=torch.float64).unsqueeze(1) * math.pi / angles
    for a, b, radius, height in ((0.03, 0.05, 0.04, 1.0), (-0.05, 0.01, 0.02, 2.0), (0.0, -0.06, 0.03, 0.5)):
        image += height * ((x - a) ** 2 + (y - b) ** 2 < radius**2)
        distance = positions(radon) - a * theta.cos() - b * theta.sin()
        expected += height * 2 * (radius**2 - distance**2).clamp(min=0).sqrt()
    assert relative_error(radon(image[None, None])[0, 0], expected) < 0.02


def test_half_angles_are_lodopabs():
    """Every fifth of its 1000 angles (j + 1/2) pi / 1000 from the third on, as an operator with all has them."""
    image = torch.rand(1, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    few, all_of_them = (
        Radon(12, 17, angles, normalize=False, half_angles=True, dtype=torch.float64) for angles in (200, 1000)
    )
    torch.testing.assert_close(few(image), all_of_them(image)[:, :, 2::5], rtol=0, atol=1e-14)
    first = all_of_them.geometry._normals()
    assert math.atan2(-first[1][0], first[0][0]) == pytest.approx(0.5 * math.pi / 1000)


def to_dense(rows: SparseRows, width: int) -> Tensor:
    matrix = torch.zeros(len(rows.ends) - 1, width, dtype=rows.weights.dtype)
    row = torch.arange(len(matrix)).repeat_interleave(rows.ends.diff().long())
    matrix[row, rows.columns.long()] = rows.weights
    return matrix


@settings(max_examples=40, deadline=None, derandomize=True)
@given(size=st.integers(1, 9), detectors=st.integers(1, 14), angles=st.integers(1, 13), half=st.booleans())
def test_symmetries_change_nothing(size, detectors, angles, half):
    radon = Radon(size, detectors, angles, normalize=False, half_angles=half, dtype=torch.float64)
    rays = hat_rows(radon.geometry.rays, np.arange(angles * detectors), torch.float64)
    pixels = hat_rows(radon.geometry.pixels, np.arange(size**2), torch.float64)
    A = to_dense(rays, size**2)
    torch.testing.assert_close(to_dense(pixels, angles * detectors), A.t(), rtol=0, atol=1e-13)
    units = torch.eye(size**2, dtype=torch.float64).view(-1, 1, size, size)
    torch.testing.assert_close(radon(units).flatten(1).t(), A, rtol=0, atol=1e-13)
    units = torch.eye(angles * detectors, dtype=torch.float64).view(-1, 1, angles, detectors)
    torch.testing.assert_close(radon.adjoint(units).flatten(1), A, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("angles", "order"), [(200, 8), (198, 8), (199, 4)])
def test_stores_one_row_per_orbit(angles, order):
    radon = Radon(60, 85, angles, device="meta")
    assert radon.projection.order == radon.backprojection.order == order
    assert len(radon.projection.ends) - 1 < 1.1 * angles * 85 / order
    assert len(radon.backprojection.ends) - 1 < 1.1 * 60**2 / order


@pytest.mark.parametrize("normalize", [True, False])
def test_filtered_backprojection_restores_the_image(normalize):
    image = blobs(128)[None, None].float()
    radon = Radon(128, 183, 200, normalize=normalize)
    assert relative_error(radon.filtered_backprojection(radon(image)), image) < 0.01
    with pytest.raises(ValueError, match="Radon got sinogram of shape"):
        radon.filtered_backprojection(torch.zeros(1, 1, 200, 184))


@pytest.fixture(scope="module")
def full_size() -> Radon:
    return Radon()


def test_constants_at_full_size(full_size):
    assert full_size.constant_bytes <= 160 * 2**20
    assert Radon(device="meta").constant_bytes == full_size.constant_bytes


def test_norm_is_one_at_full_size(full_size):
    assert full_size.norm(iterations=200, tolerance=1e-9) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("size", "detectors", "angles"), [(9, 13, 3), (4, 3, 7), (16, 23, 2)])
def test_norm_is_the_largest_singular_value(size, detectors, angles):
    radon = Radon(size, detectors, angles, dtype=torch.float64)
    A = radon(torch.eye(size**2, dtype=torch.float64).view(-1, 1, size, size)).flatten(1)
    assert torch.linalg.matrix_norm(A, 2).item() == pytest.approx(1, abs=1e-5)


def test_adjoint_at_full_size(full_size):
    x, y = torch.randn(2, *full_size.image_shape), torch.randn(2, *full_size.measurement_shape)
    Ax = full_size(x)
    mismatch = (Ax * y).sum(dtype=torch.float64) - (x * full_size.adjoint(y)).sum(dtype=torch.float64)
    assert abs(mismatch) / (Ax.norm() * y.norm()) < 1e-6


def test_scale_turns_measurements_into_line_integrals(full_size):
    ones = torch.ones(1, *full_size.image_shape)
    middle = full_size(ones)[0, 0, 0, 256] / full_size.scale
    assert middle.item() == pytest.approx(0.26, rel=1e-5)


def test_defaults_are_the_papers():
    radon = Radon(device="meta")
    assert radon.image_shape == Radon.image_shape_of() == (1, 362, 362)
    assert radon.measurement_shape == (1, 200, 513)


def test_attenuation_is_the_scale_of_line_integrals():
    assert Radon(8, 11, 5, normalize=False).attenuation_scale == 1.0
    radon = Radon(8, 11, 5)
    assert radon.attenuation_scale == radon.scale != 1.0


def test_sizes_at_the_limit():
    assert Radon.image_shape_of(image_size=2, detectors=4096, angles=4096, channels=2) == (2, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": 0}, r"Radon got angles 0, expected at least 1 and at most 4,096"),
        ({"detectors": 4097}, r"Radon got detectors 4097, expected at least 1 and at most 4,096"),
        ({"extent": 0.0}, r"Radon got extent 0.0, expected a positive number of metres"),
        ({"extent": math.inf}, r"Radon got extent inf, expected a positive number of metres"),
        (
            {"image_size": 4096, "channels": 3},
            r"Radon got image_shape \[3, 4096, 4096\], expected .* 33,554,432 numbers",
        ),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    for make in (Radon, Radon.image_shape_of):
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_without_values_there_are_the_same_constants_and_nothing_is_worked_out(monkeypatch):
    made = Radon(40, 60, 20)
    monkeypatch.setattr("bench.operators.radon.hat_rows", None)
    monkeypatch.setattr(Radon, "norm", None)
    with without_values():
        unfilled = Radon(40, 60, 20)
    sizes = [
        {name: (buffer.shape, buffer.dtype, buffer.device) for name, buffer in radon.named_buffers()}
        for radon in (made, unfilled)
    ]
    assert sizes[0] == sizes[1] and unfilled.scale == 1.0
    monkeypatch.undo()
    assert Radon(40, 60, 20).scale == made.scale
