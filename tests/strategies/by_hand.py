"""A training step, and the same with strategies written out by hand."""

import contextlib

import torch
from torch import nn
from torch.nn import functional

SIDE, CLASSES = 16, 10


def network():
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.GELU(), nn.Flatten(), nn.Linear(32 * SIDE**2, CLASSES))


def make_step(batch, device="cuda"):
    model = network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        images = torch.rand(batch, 3, SIDE, SIDE, device=device)
        loss = functional.cross_entropy(model(images), torch.zeros(batch, dtype=torch.long, device=device))
        loss.backward()
        optimizer.step()

    return step


def by_hand(batch, device="cuda", parts=1, around=contextlib.nullcontext, channels_last=False, **options):
    """`make_step` with strategies, as one writes them."""
    model = network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **options)
    if channels_last:
        model.to(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad()
        for part in range(parts):
            images = torch.rand(batch, 3, SIDE, SIDE, device=device)
            with around():
                output = model(images.contiguous(memory_format=torch.channels_last) if channels_last else images)
                loss = functional.cross_entropy(output, torch.zeros(batch, dtype=torch.long, device=device))
            del output
            (loss / parts if parts > 1 else loss).backward()
            if part < parts - 1:
                del loss, images
        optimizer.step()

    return step
