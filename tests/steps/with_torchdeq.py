"""Equilibrium models of torchdeq: https://github.com/locuslab/torchdeq."""

import torch
from torch import nn
from torch.nn import functional
from torchdeq import get_deq

from tests.steps.training import updating


def equilibrium(batch, **options):
    f = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
    encoder, decoder = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
    model = nn.ModuleList([f, encoder, decoder]).to("cuda")
    solve = get_deq(**options)

    def loss():
        images = torch.randn(batch, 3, 32, 32, device="cuda")
        injected = encoder(images)
        found, _ = solve(lambda z: functional.relu(f(z) + injected), torch.zeros_like(injected))
        return functional.mse_loss(decoder(found[-1]), images)

    return updating(model, loss)


def anderson(batch):
    return equilibrium(batch, f_solver="anderson", f_max_iter=6, b_max_iter=6, ift=True)


def fixed_point(batch):
    return equilibrium(batch, f_solver="fixed_point_iter", f_max_iter=6, f_tol=0, ift=False, grad=1)


def broyden(batch):
    return equilibrium(batch, f_solver="broyden", f_max_iter=6, b_max_iter=6, ift=False, grad=2)
