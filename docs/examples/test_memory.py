"""Tests of training memory that need no GPU: an example to copy."""

import pytest
import torch
from torch import nn


def make_step(batch, device):
    """Build the model and its optimiser on `device`; return one training step on `batch` images."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(device)
    optimizer = torch.optim.Adam(network.parameters())

    def step():
        images = torch.rand(batch, 3, 224, 224, device=device)  # values do not matter, shapes do
        labels = torch.randint(10, (batch,), device=device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


@pytest.mark.max_batch(cap="8GB", at_least=64)
@pytest.mark.max_batch(gpu="RTX 3080", at_least=80)
def test_trains_on_the_cards_we_have(record_step):
    """Each mark is one card; the test fails if the batch that fits is smaller than asked."""
    record_step(make_step)


def test_peak_of_a_batch(record_step):
    """Bounds can be asserted one by one as well, and answers compared with each other."""
    step = record_step(make_step)
    step.assert_peak_below("3GiB", batch=16)
    assert step.largest_batch(cap="24GB") >= 3 * step.largest_batch(cap="8GB")
