"""Changes around a step against the same step with the strategy written out by hand: each allocation and free of it."""

import contextlib
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.fitting.changes import CHANGES, Changed, micro_batches
from bench.fitting.observed import observe
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

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


AUTOCAST = partial(torch.autocast, "cuda", dtype=torch.bfloat16)
ON_HOST = partial(torch.autograd.graph.save_on_cpu, pin_memory=True)


def sizes(step, batch):
    with on_cuda():
        return [(event.op, event.size_bytes) for event in events_of(step, batch, 2)]


@pytest.mark.parametrize(
    ("names", "parts", "options"),
    [
        ((), 1, {}),
        (("bf16",), 1, {"around": AUTOCAST}),
        (("host",), 1, {"around": ON_HOST}),
        (("fused",), 1, {"fused": True}),
        (("one-by-one",), 1, {"foreach": False}),
        (("channels-last",), 1, {"channels_last": True}),
        ((), 4, {}),
        (("bf16",), 2, {"around": AUTOCAST}),
        (("channels-last", "host", "fused"), 3, {"around": ON_HOST, "channels_last": True, "fused": True}),
    ],
)
def test_a_change_allocates_what_the_strategy_by_hand_allocates(names, parts, options):
    changed = sizes(Changed(make_step, names, parts), 6)
    written = sizes(partial(by_hand, parts=parts, **options), 6)
    assert changed == written
