"""Layered ground and trajectories of Lorenz-96."""

import torch

from bench import data
from bench.operators.lorenz import LARGEST_STATE, runge_kutta


def test_each_row_of_an_attractor_is_half_a_unit_of_time_after_the_one_above():
    image = data.load("attractor", "train", (1, 3, 40), count=2)[1]
    state = LARGEST_STATE * image[0, :2].double()
    for _ in range(10):
        state = runge_kutta(state, 0.05, 8.0)
    torch.testing.assert_close(image[0, 1:].double(), state / LARGEST_STATE, rtol=0, atol=1e-5)
    assert image.abs().max() <= 1


def test_ground_is_made_of_few_velocities_and_faster_below():
    images = data.load("layered-ground", "test", (1, 24, 20), count=30)
    for image in images:
        assert image.shape == (1, 24, 20) and image.dtype == torch.float32
        assert 2 <= len(image.unique()) <= 8
        assert image.min() >= 0 and image.max() <= 1
    rows = torch.stack(list(images)).mean(dim=(0, 1, 3))
    assert rows[-4:].mean() > rows[:4].mean() + 0.3


def test_the_same_index_gives_the_same_image_and_splits_differ():
    for name in ("attractor", "layered-ground"):
        first, again, other = (data.load(name, split, (1, 12, 12), count=2) for split in ("train", "train", "test"))
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[1], other[1]) and not torch.equal(first[0], first[1])
