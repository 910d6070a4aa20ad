"""The sets that need no download: shapes and ranges, splits, determinism, the same phantom at every size."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import SPLITS, load, names
from bench.data.base import random_stream
from bench.data.phantoms import Ellipse, Texture, render
from bench.data.phase import with_phase
from bench.data.photographs import _Crops
from bench.errors import UsageError

EMBEDDED = {"photographs": 3, "ct-phantoms": 1, "mri-phantoms": 2}
PHANTOMS = ["ct-phantoms", "mri-phantoms"]


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("size", [(64, 64), (33, 48), (362, 362)])
def test_shape_dtype_and_range(name, size):
    shape = (EMBEDDED[name], *size)
    images = load(name, "test", shape)
    image = images[0]
    assert image.shape == shape and image.dtype == torch.float32
    magnitude = image.norm(dim=0) if name == "mri-phantoms" else image
    low, high = (-1, 1) if name == "photographs" else (0, 1)
    assert low <= magnitude.min() and magnitude.max() <= high + 1e-6
    assert magnitude.std() > 0.05
    assert images.data_range == high - low


@pytest.mark.parametrize("name", EMBEDDED)
def test_splits_share_no_subject(name):
    shape = (EMBEDDED[name], 32, 32)
    sets = [load(name, split, shape) for split in SPLITS]
    subjects = [set(images.subjects) for images in sets]
    assert sum(map(len, subjects)) == len(set.union(*subjects))
    assert all(len(images) == len(images.subjects) for images in sets)


def test_how_many_there_are():
    counts = {
        name: [(len(images), images.effective_sample_size) for images in (load(name, s, (c, 32, 32)) for s in SPLITS)]
        for name, c in EMBEDDED.items()
    }
    phantoms = [(2000, 2000), (50, 50), (50, 50)]
    assert counts == {
        "photographs": [(1024, 4), (16, 1), (16, 1)],
        "ct-phantoms": phantoms,
        "mri-phantoms": phantoms,
    }


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_image_is_another(name):
    images = load(name, "train", (EMBEDDED[name], 32, 32))
    other = load(name, "test", (EMBEDDED[name], 32, 32))
    found = [images[index] for index in range(8)] + [other[0]]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_another_seed_gives_other_phantoms():
    assert not torch.equal(*(load("ct-phantoms", "test", (1, 32, 32), seed=seed)[0] for seed in (0, 1)))


def test_the_same_images_bit_for_bit_in_another_process():
    script = f"""
import hashlib, torch
torch.set_num_threads(2)
from bench.data import load
for name, channels in {EMBEDDED}.items():
    images = load(name, "train", (channels, 48, 48))
    images[5]
    print(hashlib.sha256(images[3].numpy().tobytes()).hexdigest())
"""
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    here = [load(name, "train", (channels, 48, 48))[3] for name, channels in EMBEDDED.items()]
    assert elsewhere.split() == [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in here]


@pytest.mark.parametrize("name", PHANTOMS)
@pytest.mark.parametrize("index", range(4))
def test_the_same_phantom_at_every_size(name, index):
    """A small phantom is the large one averaged over its pixels, up to the straight-edge approximation."""
    small, large = (load(name, "test", (EMBEDDED[name], size, size))[index] for size in (64, 512))
    averaged = torch.nn.functional.avg_pool2d(large.unsqueeze(0), 8)[0]
    other = load(name, "test", (EMBEDDED[name], 64, 64))[index + 1]
    assert (small - averaged).square().mean().sqrt() < 0.01
    assert (small - other).square().mean().sqrt() > 0.05


def test_a_disc_has_its_area():
    disc = Ellipse(0.1, -0.2, 0.4, 0.4, 0.3, value=1.0)
    flat = Texture.draw(random_stream("flat"))
    for size in (33, 128):
        assert render([disc], flat, size, size).sum() * (2 / size) ** 2 == pytest.approx(torch.pi * 0.16, rel=2e-3)


def test_the_texture_averages_over_pixels_exactly():
    texture = Texture.draw(random_stream("waves"))
    coarse, fine = (
        texture.render(*[(2 * torch.arange(n).double().numpy() + 1) / n - 1] * 2, (2 / n, 2 / n)) for n in (32, 256)
    )
    assert coarse == pytest.approx(fine.reshape(32, 8, 32, 8).mean((1, 3)), abs=1e-12)
    assert fine.std() == pytest.approx(1, abs=0.15)


class Crops(_Crops):
    name = "crops"
    crops_per_photograph = {"train": 200, "validation": 50, "test": 50}  # noqa: RUF012


@pytest.fixture
def ramp(tmp_path):
    """A photograph that grows by one grey level per column, left to right."""
    values = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (200, 256, 3))
    Image.fromarray(np.ascontiguousarray(values)).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


def test_half_of_the_training_crops_are_mirrored_and_no_others(ramp):
    def mirrored(split):
        return sum(crop[0, 0, 0].item() > crop[0, 0, -1].item() for crop in Crops(split, (3, 8, 8), [ramp]))

    assert mirrored("test") == mirrored("validation") == 0
    assert 65 <= mirrored("train") <= 135  # five standard deviations around 100


def test_crops_are_scaled_down_one_to_four_times(ramp):
    """On the ramp, the step from pixel to pixel is the scale in columns."""
    crops = torch.stack(list(Crops("test", (3, 12, 16), [ramp])))
    scales = (crops[:, 0, 0, 12] - crops[:, 0, 0, 4]) * 127.5 / 8
    assert 0.8 < scales.min() < 1.5 and 3 < scales.max() < 4.2


def test_crops_are_scaled_down_as_often_as_is_asked(ramp):
    crops = torch.stack(list(Crops("test", (3, 12, 16), [ramp], (6, 9))))
    scales = (crops[:, 0, 0, 12] - crops[:, 0, 0, 4]) * 127.5 / 8
    assert 5.8 < scales.min() < 6.5 and 8.5 < scales.max() < 9.2
    as_far = torch.stack(list(Crops("test", (3, 12, 16), [ramp], (15, 100))))  # 256 columns over 16 pixels
    assert ((as_far[:, 0, 0, 12] - as_far[:, 0, 0, 4]) * 127.5 / 8).max() < 16.2


@pytest.mark.parametrize("reduction", [(4,), (4, 2), (0, 4), (1, float("nan")), (1, float("inf"))])
def test_reductions_that_are_none_are_refused(reduction):
    with pytest.raises(UsageError, match="expected the smallest and the largest factor"):
        load("photographs", "test", (3, 32, 32), reduction=reduction)


def test_a_photograph_smaller_than_the_crop_is_enlarged(ramp):
    assert Crops("test", (3, 400, 300), [ramp])[0].shape == (3, 400, 300)


def test_jpeg_files_are_halved(tmp_path):
    """Stripes of one pixel become grey."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("stripes.jpg", "stripes.png"):
        Image.fromarray(stripes).save(tmp_path / name, quality=100)
    jpeg, png = (Crops("test", (3, 32, 32), [tmp_path / f"stripes.{kind}"])[0] for kind in ("jpg", "png"))
    assert jpeg.std() < 0.05 < png.std()


def test_the_phase_is_smooth_and_the_same_at_every_size():
    small, large = (with_phase(np.ones((n, n)), random_stream("phase")) for n in (32, 320))
    phases = [torch.view_as_complex(each.movedim(0, -1).contiguous()) for each in (small, large)]
    assert torch.allclose(small.norm(dim=0), torch.ones(32, 32))
    assert (torch.nn.functional.avg_pool2d(large, 10) - small).abs().max() < 0.01
    steps = (phases[1][1:] * phases[1][:-1].conj()).angle()
    assert steps.abs().max() < 0.1  # radians per pixel
    assert (phases[0] / phases[0].mean()).angle().std() > 0.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ct-phantom", "train", (1, 8, 8)), "unknown data set 'ct-phantom': known are photographs, ct-phantoms"),
        (("ct-phantoms", "training", (1, 8, 8)), "unknown split 'training' of ct-phantoms: known are train, valid"),
        (("ct-phantoms", "train", (2, 8, 8)), "ct-phantoms got image shape [2, 8, 8], expected [1, H, W]"),
        (("photographs", "train", (3, 0, 8)), "photographs got image shape [3, 0, 8], expected [3, H, W]"),
        (("mri-phantoms", "train", (2, 8)), "mri-phantoms got image shape [2, 8], expected [2, H, W]"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, says):
    with pytest.raises(UsageError) as error:
        load(*arguments)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_bad_options_are_one_sentence():
    with pytest.raises(UsageError, match="ct-phantoms has no option 'folder': it has seed, count"):
        load("ct-phantoms", "train", (1, 8, 8), folder="x")
    with pytest.raises(UsageError, match="ct-phantoms got count 0, expected at least 1"):
        load("ct-phantoms", "train", (1, 8, 8), count=0)


def test_names_are_found_in_any_case():
    assert load("CT-Phantoms", "test", (1, 8, 8), count=3).name == "ct-phantoms"
    assert len(load("ct-phantoms", "test", (1, 8, 8), count=3)) == 3
    assert set(EMBEDDED) <= set(names())


def test_an_index_beyond_the_end():
    images = load("ct-phantoms", "test", (1, 8, 8), count=3)
    assert torch.equal(images[-1], images[2])
    for index in (3, -4):
        with pytest.raises(IndexError, match="has 3 images"):
            images[index]
