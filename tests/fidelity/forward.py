"""Training steps with forward derivatives, by torch.func: a make_step(batch, device) by name in STEPS."""

from functools import partial

import torch
from torch import nn
from torch.func import jacfwd, jvp, vmap

IN = 8


def _train(loss, batch, device):
    net = nn.Sequential(nn.Linear(IN, 64), nn.Tanh(), nn.LayerNorm(64), nn.Linear(64, IN)).to(device)

    def step():
        net.zero_grad()
        loss(net, torch.rand(batch, IN, device=device)).backward()

    return step


def _along(net, x):
    return jvp(net, (x,), (torch.ones_like(x),))[1].square().mean()


def _jacobian(net, x):
    return vmap(jacfwd(net))(x).square().mean()


def _of_a_loss(net, x):
    classes = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return jvp(lambda y: nn.functional.cross_entropy(net(y), classes), (x,), (torch.ones_like(x),))[1]


STEPS = {
    "along_a_direction": partial(_train, _along),
    "whole_jacobian": partial(_train, _jacobian),
    "of_a_loss": partial(_train, _of_a_loss),
}
