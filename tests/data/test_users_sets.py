"""CelebA, LoDoPaB-CT and fastMRI: small files in the official layout, and files that are wrong."""

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import MeasuredSet, Noise, load
from bench.errors import UsageError
from bench.operators.mri import MRI
from bench.operators.radon import Radon


def refused(name, split, shape, folder, *says):
    """Loading, or reading the first image, ends in one sentence that has all of `says`."""
    with pytest.raises(UsageError) as error:
        load(name, split, shape, folder=folder)[0]
    sentence = str(error.value)
    assert "\n" not in sentence
    assert all(str(part) in sentence for part in says), sentence


def cut_short(path, keep=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


# CelebA


@pytest.fixture
def celeba(tmp_path):
    """Images on either side of the official borders between the splits; red grows with the number."""
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    for place, number in enumerate([1, 2, 162_770, 162_771, 182_637, 182_638, 202_599]):
        image = np.zeros((218, 178, 3), np.uint8)
        image[..., 0] = 30 * place
        image[:109, :, 2] = 255  # the upper half is blue
        Image.fromarray(image).save(folder / f"{number:06d}.jpg", quality=95)
    return folder.parent


@pytest.mark.parametrize("inner", ["", "img_align_celeba"])
def test_celeba_goes_by_the_official_partition(celeba, inner):
    found = {
        s: load("CelebA", s, (3, 128, 128), folder=celeba / inner).subjects for s in ("train", "validation", "test")
    }
    assert found == {
        "train": ["000001", "000002", "162770"],
        "validation": ["162771", "182637"],
        "test": ["182638", "202599"],
    }


def test_celeba_images_are_scaled_as_a_whole(celeba):
    image = load("CelebA", "test", (3, 128, 128), folder=celeba)[1]
    assert image.shape == (3, 128, 128) and image.dtype == torch.float32
    assert image[0].mean().item() == pytest.approx(180 / 127.5 - 1, abs=0.02)
    assert image[2, :60].mean() > 0.95 and image[2, 68:].mean() < -0.95


def test_celeba_refusals(celeba, tmp_path):
    shape = (3, 32, 32)
    refused("CelebA", "train", shape, tmp_path / "nowhere", tmp_path / "nowhere", "does not exist")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("CelebA", "train", shape, empty, empty, "has 0 images named like 000001.jpg")
    (empty / "portrait.png").write_bytes(b"")
    (empty / "000001.jpg").write_bytes(b"no image")
    refused("CelebA", "test", shape, empty, "has 1 images", "182638.jpg")
    refused("CelebA", "train", shape, empty, "cannot read the photograph", empty / "000001.jpg")
    first = celeba / "img_align_celeba" / "000001.jpg"
    cut_short(first)
    refused("CelebA", "train", shape, celeba, first, "cut short")
    first.unlink()
    assert len(load("CelebA", "train", shape, folder=celeba)) == 2


# LoDoPaB-CT


def write_lodopab(folder, split, files, total):
    """Ground truth with a ramp along the first axis of image 0 and 3 of each file, the rest zero (and not stored)."""
    for number in range(files):
        with h5py.File(folder / f"ground_truth_{split}_{number:03d}.hdf5", "w") as file:
            data = file.create_dataset(
                "data", (128, 362, 362), np.float32, maxshape=(128, 362, 362), chunks=(1, 362, 362)
            )
            for place in (0, 3):
                data[place] = np.linspace(0, 1, 362, dtype=np.float32)[:, None] * (1 - 0.1 * number)
    # 60 patients, slices in random order as in the published files
    patients = np.random.default_rng(0).permutation(np.arange(total) % 60)
    (folder / f"patient_ids_rand_{split}.csv").write_text("".join(f"{patient}\n" for patient in patients))


@pytest.fixture
def lodopab(tmp_path):
    folder = tmp_path / "lodopab"
    folder.mkdir()
    write_lodopab(folder, "test", 28, 3553)
    write_lodopab(folder, "train", 2, 35820)
    return folder


def test_lodopab_has_the_published_counts(lodopab):
    images = load("LoDoPaB-CT", "test", (1, 362, 362), folder=lodopab)
    assert len(images) == 3553 and images.effective_sample_size == 60
    assert len(load("LoDoPaB-CT", "train", (1, 362, 362), folder=lodopab)) == 256  # what two files hold


def test_lodopab_images_are_turned_upright(lodopab):
    """The first axis of the files is x: it has to become the columns."""
    images = load("LoDoPaB-CT", "test", (1, 362, 362), folder=lodopab)
    image = images[128 * 2 + 3]
    assert image.shape == (1, 362, 362) and image.dtype == torch.float32
    expected = torch.linspace(0, 1, 362).expand(1, 362, 362) * 0.8
    assert torch.allclose(image, expected, atol=1e-6)
    assert images[1].abs().max() == 0


def test_lodopab_at_half_the_size_averages_areas(lodopab):
    full, half = (load("LoDoPaB-CT", "test", (1, n, n), folder=lodopab)[0] for n in (362, 181))
    assert torch.allclose(half, torch.nn.functional.avg_pool2d(full, 2), atol=1e-6)


def test_lodopab_is_opened_without_reading_it(lodopab):
    for path in lodopab.glob("ground_truth_test_*.hdf5"):
        path.write_bytes(b"not HDF5")
    images = load("LoDoPaB-CT", "test", (1, 362, 362), folder=lodopab)
    assert len(images) == 3553
    with pytest.raises(UsageError, match=r"ground_truth_test_001\.hdf5, which may be cut short"):
        images[130]


def test_lodopab_refusals(lodopab, tmp_path):
    shape = (1, 362, 362)
    refused("LoDoPaB-CT", "test", shape, tmp_path / "nowhere", "nowhere, which does not exist")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("LoDoPaB-CT", "test", shape, empty, empty / "ground_truth_test_000.hdf5", "unpack ground_truth_test.zip")
    first = lodopab / "ground_truth_test_000.hdf5"
    cut_short(first)
    refused("LoDoPaB-CT", "test", shape, lodopab, first, "cut short")
    with h5py.File(first, "w") as file:
        file["images"] = np.zeros((128, 362, 362), np.float32)
    refused("LoDoPaB-CT", "test", shape, lodopab, first, "not of the expected layout", "'data'")
    with h5py.File(first, "w") as file:
        file["data"] = np.zeros((4, 64, 64), np.float32)
    refused("LoDoPaB-CT", "test", shape, lodopab, first, "[4, 64, 64]", "[128, 362, 362]")
    (lodopab / "ground_truth_test_005.hdf5").unlink()
    refused("LoDoPaB-CT", "test", shape, lodopab, lodopab / "ground_truth_test_005.hdf5")


def test_lodopab_needs_to_know_the_patients(lodopab):
    patients = lodopab / "patient_ids_rand_test.csv"
    patients.write_text("1\n2\n")
    refused("LoDoPaB-CT", "test", (1, 64, 64), lodopab, patients, "has 2 lines, expected 3,553")
    patients.unlink()
    refused("LoDoPaB-CT", "test", (1, 64, 64), lodopab, f"cannot read {patients}")


def disc(x, y, radius, size=362):
    """A disc's ground truth as LoDoPaB-CT has it, x first and y with the second axis, on an image of 0.26 m."""
    place = (np.arange(size) + 0.5) / size * 0.26 - 0.13
    return ((place[:, None] - x) ** 2 + (place - y) ** 2 < radius**2).astype(np.float32)


def chords(x, y, radius):
    """Its line integrals, the lengths of chords, [1000, 513]: cell s at the angle t is the line x cos t + y sin t = s.

    That is how ODL, with which the set was made, lays rays through an image whose first axis is x.
    """
    angles = (np.arange(1000)[:, None] + 0.5) * np.pi / 1000
    cells = (np.arange(513) - 256) * (0.26 * np.sqrt(2) / 513)
    off = x * np.cos(angles) + y * np.sin(angles) - cells
    return (2 * np.sqrt(np.clip(radius**2 - off**2, 0, None))).astype(np.float32)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    (folder / "patient_ids_rand_test.csv").write_text("1\n" * 3553)
    for name, values in (("ground_truth", disc(0.05, -0.03, 0.02)), ("observation", chords(0.05, -0.03, 0.02))):
        with h5py.File(folder / f"{name}_test_000.hdf5", "w") as file:
            data = file.create_dataset("data", (128, *values.shape), np.float32, chunks=(1, *values.shape))
            data[1] = values
    return folder


@pytest.mark.parametrize("angles", [200, 40])
def test_lodopab_observations_are_what_the_operator_measures(observed, angles):
    operator = Radon(image_size=362, detectors=513, angles=angles, half_angles=True)
    images = load("LoDoPaB-CT", "test", (1, 362, 362), folder=observed)
    image, measurement = MeasuredSet(images, operator, Noise(photons=4096), own=True)[1]
    assert torch.equal(measurement, images.observation(1, operator))  # no noise is added
    difference = measurement - operator(image.unsqueeze(0))[0]
    assert difference.norm() < 0.05 * measurement.norm()


def test_lodopab_observations_of_other_rays_are_refused(observed):
    images = load("LoDoPaB-CT", "test", (1, 64, 64), folder=observed)
    others = [{"angles": 250}, {"detectors": 512}, {"half_angles": False}, {"extent": 0.3}, {"channels": 3}]
    for options in others:
        operator = Radon(**{"image_size": 64, "detectors": 513, "angles": 8, "half_angles": True} | options)
        with pytest.raises(UsageError, match="513 cells at 1,000 half angles"):
            images.observation(1, operator)
    with pytest.raises(UsageError, match="half angles"):
        images.observation(1, MRI((2, 64, 64)))
    with pytest.raises(UsageError, match=r"no file .*observation_test_000"):
        (observed / "observation_test_000.hdf5").rename(observed / "elsewhere")
        images.observation(1, Radon(image_size=64, detectors=513, angles=8, half_angles=True))


# fastMRI


def write_knee(path, patient, slices=2, columns=368, seed=0):
    """A volume whose k-space is the transform, by this suite's operator, of a known complex image [slices, 2, ...]."""
    random = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.avg_pool2d(torch.randn(slices, 2, 642, columns + 2, generator=random), 3, stride=1)
    image[:, :, 300, columns // 2] += 4
    kspace = MRI((2, 640, columns), acceleration=1)(image).movedim(1, -1).contiguous()
    top, left = (640 - 320) // 2, (columns - 320) // 2
    cropped = image[:, :, top : top + 320, left : left + 320]
    magnitude = cropped.norm(dim=1)
    with h5py.File(path, "w") as file:
        file["kspace"] = torch.view_as_complex(kspace).numpy()
        file["reconstruction_esc"] = magnitude.numpy()
        file.attrs["max"] = float(magnitude.max())
        file.attrs["norm"] = float(magnitude.norm())
        file.attrs["patient_id"] = patient
    return cropped / magnitude.max()


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fastmri")
    (folder / "singlecoil_train").mkdir()
    (folder / "singlecoil_val").mkdir()
    for number in range(11):  # ten patients, the first with two volumes
        write_knee(
            folder / "singlecoil_train" / f"file1000{number:03d}.h5", f"patient{number % 10}", slices=1, seed=number
        )
    image = write_knee(folder / "singlecoil_val" / "file1000999.h5", "patient99", slices=2, columns=372, seed=99)
    return folder, image


def test_fastmri_gives_back_the_image(knees):
    folder, expected = knees
    images = load("fastMRI", "test", (2, 320, 320), folder=folder)
    assert len(images) == 2 and images.effective_sample_size == 1 and images.subjects[0] == "patient99"
    found = torch.stack(list(images))
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5
    assert found.norm(dim=1).max().item() == pytest.approx(1, abs=1e-5)


def test_fastmri_splits_by_patient(knees):
    folder, _ = knees
    train, validation = (load("fastMRI", split, (2, 320, 320), folder=folder) for split in ("train", "validation"))
    assert len(train) == 10 and train.effective_sample_size == 9
    assert validation.subjects == ["patient9"]


def test_fastmri_at_half_the_size(knees):
    folder, _ = knees
    full, half = (load("fastMRI", "test", (2, n, n), folder=folder)[0] for n in (320, 160))
    assert torch.allclose(half, torch.nn.functional.avg_pool2d(full, 2), atol=1e-6)


def test_fastmri_measures_with_its_own_columns(knees):
    folder, expected = knees
    operator = MRI((2, 640, 372), acceleration=4)
    images = load("fastMRI", "test", (2, 640, 372), folder=folder)
    pairs = MeasuredSet(images, operator, Noise(sigma=0.1), own=True)
    for (image, measurement), cropped in zip(pairs, expected, strict=True):
        assert (image[:, 160:480, 26:346] - cropped).abs().max() < 1e-5
        assert (measurement - operator(image.unsqueeze(0))[0]).abs().max() < 1e-5
        assert measurement[..., operator.mask == 0].abs().max() == 0
    with h5py.File(folder / "singlecoil_val" / "file1000999.h5") as file:
        of_file = file["kspace"][1].real / file.attrs["max"]
    assert np.abs(pairs[1][1][0].numpy() - of_file * operator.mask.numpy()).max() < 1e-6


def test_fastmri_has_no_columns_of_other_sizes(knees):
    folder, _ = knees
    with pytest.raises(UsageError, match=r"\[2, 640, 372\]"):
        load("fastMRI", "test", (2, 320, 320), folder=folder).observation(0, MRI((2, 320, 320)))
    assert len(load("fastMRI", "train", (2, 640, 368), folder=folder)) == 10


def test_slices_of_one_volume_share_a_mask(knees):
    folder, _ = knees
    operator = MRI((2, 320, 320), acceleration=4, masks="volume")
    pairs = MeasuredSet(load("fastMRI", "test", (2, 320, 320), folder=folder), operator, Noise(sigma=0.1))
    others = MeasuredSet(load("fastMRI", "train", (2, 320, 320), folder=folder), operator, Noise(sigma=0.1))
    first, second = (pairs[index][1].abs().sum(dim=(0, 1)) > 0 for index in (0, 1))
    third = others[0][1].abs().sum(dim=(0, 1)) > 0
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(first, pairs.operator_of(0).mask > 0)


def test_a_set_without_measurements_says_so():
    images = load("ct-phantoms", "test", (1, 32, 32))
    with pytest.raises(UsageError, match="ct-phantoms has no measurements of its own"):
        MeasuredSet(images, Radon(image_size=32, detectors=47, angles=40), Noise(), own=True)[0]


def test_fastmri_refusals(tmp_path):
    shape = (2, 320, 320)
    refused("fastMRI", "test", shape, tmp_path / "nowhere", "nowhere, which does not exist")
    refused("fastMRI", "test", shape, tmp_path, tmp_path / "singlecoil_val" / "*.h5", "give the folder that holds")
    for name in ("singlecoil_val", "singlecoil_train"):
        (tmp_path / name).mkdir()
    refused("fastMRI", "test", shape, tmp_path, tmp_path / "singlecoil_val" / "*.h5")
    write_knee(tmp_path / "singlecoil_train" / "file1.h5", "alone", slices=1)
    refused("fastMRI", "validation", shape, tmp_path, "volumes of 1 patients, expected at least 10")

    path = tmp_path / "singlecoil_val" / "file1000000.h5"
    write_knee(path, "someone", slices=1)
    whole = path.read_bytes()
    cut_short(path)
    refused("fastMRI", "test", shape, tmp_path, path, "cut short")

    def changed(change, *says):
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            change(file)
        refused("fastMRI", "test", shape, tmp_path, path, *says)

    def replace(file, name, values):
        del file[name]
        file[name] = values

    changed(lambda file: file.__delitem__("kspace"), "not of the expected layout", "'kspace'")
    changed(lambda file: file.attrs.__delitem__("max"), "not of the expected layout", "'max'")
    changed(lambda file: file.attrs.__setitem__("max", 0.0), "attribute max 0.0")
    changed(lambda file: replace(file, "kspace", np.zeros((1, 15, 640, 368), np.complex64)), "kspace [1, 15, 640, 368]")
    changed(lambda file: replace(file, "kspace", np.zeros((1, 640, 300), np.complex64)), "k-space of 640 x 300")
    changed(
        lambda file: replace(file, "reconstruction_esc", np.ones((1, 320, 320), np.float32)), "slice 0", "single-coil"
    )
