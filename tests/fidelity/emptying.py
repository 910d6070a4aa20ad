"""Steps that empty the allocator's cache: make_step(batch, device), by name in STEPS."""

import gc
from functools import partial

import torch
from torch import nn
from torch.cuda import empty_cache
from torch.nn import functional

WIDTH = 1536


def pictures(batch, device, empty):
    """Images of two sizes by turns, so that what one leaves in the cache does not serve the other."""
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)).to(device)
    optimizer = torch.optim.Adam(net.parameters())

    def step():
        for samples in (64 * batch, 160 * batch, 100 * batch):
            optimizer.zero_grad()
            x = torch.rand(samples, WIDTH, device=device)
            functional.mse_loss(net(x), x).backward()
            del x
            empty()
        optimizer.step()

    return step


def within_forward(batch, device):
    """Between layers, while activations are alive."""
    layers = nn.ModuleList(nn.Linear(WIDTH, width) for width in (700, 2100, 1300)).to(device)

    def step():
        for layer, samples in zip(layers, (40 * batch, 96 * batch, 240 * batch), strict=True):
            x = torch.rand(samples, WIDTH, device=device)
            y = layer(x).relu()
            del x
            torch.cuda.empty_cache()
            (y.square().mean() + torch.rand(60 * batch, WIDTH, device=device).mean()).backward()

    return step


def never():
    pass


def torch_cuda():
    torch.cuda.empty_cache()


def accelerator():
    torch.accelerator.empty_cache()


def taken_before():
    empty_cache()


def collected():
    gc.collect()
    torch.cuda.memory.empty_cache()


WAYS = (never, torch_cuda, accelerator, taken_before, collected)
STEPS = {empty.__name__: partial(pictures, empty=empty) for empty in WAYS} | {"within_forward": within_forward}
