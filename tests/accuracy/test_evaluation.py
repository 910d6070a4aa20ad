"""Reconstructions judged: every batch counts, and what is no number is said."""

import math

import pytest
import torch

from bench.accuracy.evaluation import evaluate
from bench.accuracy.metrics import Metrics

CPU = torch.device("cpu")
IMAGES = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
BATCHES = [(IMAGES[:2], IMAGES[:2]), (IMAGES[2:], IMAGES[2:])]


def judged(added):
    """Reconstructions that are the image plus a number, batch by batch."""
    left = iter(added)
    return evaluate(lambda y: y + next(left), BATCHES, Metrics(1.0, "image"), CPU)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("place", [0, 1])
def test_one_batch_that_is_no_number_decides(bad, place):
    """1e30 is a number, but its square is none in float32: the PSNR would be -inf."""
    added = [0.1, 0.1]
    added[place] = bad
    assert not judged(added).finite
    assert judged([0.1, 0.1]).finite


def test_the_very_image_has_an_infinite_psnr():
    done = judged([0.0, 0.1])
    assert done.finite
    assert done.psnr_db == [math.inf, math.inf, pytest.approx(20, abs=1e-3), pytest.approx(20, abs=1e-3)]
    assert done.ssim[:2] == pytest.approx([1, 1])


def test_a_channel_that_no_metric_looks_at_has_to_be_a_number_too():
    images = IMAGES.repeat(1, 2, 1, 1)
    left = iter([math.nan, 0.0])

    def reconstruct(y):
        return torch.cat([y[:, :1] + 0.1, y[:, 1:] + next(left)], dim=1)

    batches = [(images[:2], images[:2]), (images[2:], images[2:])]
    assert not evaluate(reconstruct, batches, Metrics(1.0, "real"), CPU).finite
