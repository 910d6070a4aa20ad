"""Training steps as people write them for a GPU, each as make_step(batch, device) that says "cuda" itself.

Mixed precision in its spellings, values read for a log, loaders, schedulers, averages of weights, checkpoints: nothing
in them is written for a recording. They are held against what the virtual card answered (tools/virtual_goldens/steps).
"""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

WIDTH = 96


def perceptron():
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.LayerNorm(WIDTH))


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))


def tokens(batch):
    return torch.rand(batch, 32, WIDTH, device="cuda")


def images(batch):
    return torch.rand(batch, 3, 32, 32, device="cuda")


def train(make_model, loss_of, samples, batch, device):
    """A step of AdamW on `loss_of(model, samples)`."""
    model = make_model().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, samples(batch)).backward()
        optimizer.step()

    return step


def half(model, values):
    with torch.autocast("cuda", dtype=torch.float16):
        return functional.mse_loss(model(values), values)


def bfloat16(model, values):
    with torch.autocast(device_type=values.device.type, dtype=torch.bfloat16):
        output = model(values)
    return (output.float() - values).square().mean()


def old_spelling(model, values):
    with torch.cuda.amp.autocast(dtype=torch.bfloat16):
        return model(values).square().mean()


def decorated(model, values):
    @torch.autocast("cuda", dtype=torch.bfloat16)
    def loss_of():
        return model(values).square().mean()

    return loss_of()


def without_a_cache(model, values):
    with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
        return model(model(values)).square().mean()


def used_twice(model, values):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        return model(model(values)).square().mean()


def nested(model, values):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        values = model[0](values)
        with torch.autocast("cuda", enabled=False):
            values = model[1](values.float())
        with torch.autocast("cuda", dtype=torch.float16):
            values = model[2](values)
        return model[3](values).square().mean()


def looked_at_first(model, values):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        with torch.no_grad():
            model(values)
        return model(values).square().mean()


def widened(model, values):
    """Operations of every list of autocast's."""
    with torch.autocast("cuda", dtype=torch.bfloat16):
        hidden = model(values).bfloat16()
        scores = torch.softmax(hidden @ hidden.mT, dim=-1)
        mixed = torch.addcmul(values, hidden, values) + hidden.pow(2).log1p()
        return (scores @ mixed).sum() + torch.linalg.vector_norm(hidden) + hidden.sum(-1).mean()


def half_softmax(model, values):
    with torch.autocast("cuda", dtype=torch.float16):
        hidden = model[0](values)
        return functional.log_softmax(hidden, -1).mean() + torch.softmax(hidden, -1).square().mean()


def classified(model, values):
    with torch.autocast("cuda", dtype=torch.float16):
        logits = model[0](values).flatten(0, 1)
        labels = torch.randint(0, 4 * WIDTH, (len(logits),), device="cuda")
        return functional.cross_entropy(logits, labels, label_smoothing=0.1)


def checkpointed(model, values, reentrant=False):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        hidden = checkpoint(model, values.requires_grad_(), use_reentrant=reentrant)
        return checkpoint(model, hidden, use_reentrant=reentrant).square().mean()


def checkpointed_reentrant(model, values):
    return checkpointed(model, values, reentrant=True)


def images_in_half(model, values):
    with torch.autocast("cuda", dtype=torch.float16):
        return functional.l1_loss(model(values), values)


def channels_last(model, values):
    model.to(memory_format=torch.channels_last)
    return model(values.to(memory_format=torch.channels_last)).square().mean()


def with_values(model, values):
    """What a log or a check of somebody's reads; also the device's own."""
    loss = model(values).square().mean()
    torch.cuda.synchronize()
    text = f"{loss:.3f} {loss.item():.2e} {float(loss.detach())} {loss.detach().cpu().numpy()}"
    if torch.isnan(loss) or torch.isinf(loss).item() or math.isnan(loss.detach()) or "x" in text:
        raise FloatingPointError(text)
    return loss


def scaled(batch, device, enabled=True):
    """GradScaler, with gradients unscaled and clipped."""
    model = perceptron().to("cuda")
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cuda", enabled=enabled)

    def step():
        optimizer.zero_grad()
        loss = half(model, tokens(batch))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return step


def bfloat16_model(batch, device):
    model = perceptron().to("cuda:0", torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step():
        optimizer.zero_grad()
        model(tokens(batch).to(torch.bfloat16)).square().mean().backward()
        optimizer.step()

    return step


def loaded(batch, device):
    """A loader, two micro-batches, a schedule, and an average of the weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = convolutions().to(device, non_blocking=True)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)
    loader = DataLoader(TensorDataset(torch.rand(2 * batch, 3, 32, 32), torch.arange(2 * batch)), batch, shuffle=True)

    def step():
        for pictures, labels in loader:
            pictures, labels = pictures.to(device, non_blocking=True), labels.cuda()
            (functional.cross_entropy(model(pictures).mean((-1, -2)), labels % 3) / 2).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for kept, weight in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(weight, 0.01)

    return step


def made_there(batch, device):
    """Built where it trains."""
    with torch.device("cuda"):
        model = perceptron()
    weights = torch.tensor([1.0, 2.0, 3.0], device="cuda:0")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step():
        optimizer.zero_grad()
        output = model(tokens(batch).new_ones((batch, 32, WIDTH)))
        (output[..., :3] * weights.to(output.device)).sum().backward()
        optimizer.step()

    return step


LOSSES = (half, bfloat16, old_spelling, decorated, without_a_cache, used_twice, nested, looked_at_first, widened)
LOSSES += (half_softmax, classified, checkpointed, checkpointed_reentrant, with_values)

STEPS = {
    **{loss_of.__name__: partial(train, perceptron, loss_of, tokens) for loss_of in LOSSES},
    **{loss_of.__name__: partial(train, convolutions, loss_of, images) for loss_of in (images_in_half, channels_last)},
    "scaled": scaled,
    "not_scaled": partial(scaled, enabled=False),
    "bfloat16_model": bfloat16_model,
    "loaded": loaded,
    "made_there": made_there,
}
