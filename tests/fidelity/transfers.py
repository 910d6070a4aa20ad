"""Training steps that bring data to the card in one way each: make_step(batch, device) by name in STEPS."""

import torch
from torch import nn

LAST = torch.channels_last


def empty(values, device, **options):
    return torch.empty(values.shape, device=device, **options)


WAYS = {
    "plain": lambda x, device: x.to(device),
    "to_last": lambda x, device: x.to(device, memory_format=LAST),
    "already_last": lambda x, device: x.contiguous(memory_format=LAST).to(device),
    "halved": lambda x, device: x.to(device, torch.float16),
    "halved_at_once": lambda x, device: x.to(device, torch.float16, non_blocking=True),
    "halved_last": lambda x, device: x.to(device, torch.float16, memory_format=LAST),
    "halved_last_at_once": lambda x, device: x.to(device, torch.float16, memory_format=LAST, non_blocking=True),
    "turned": lambda x, device: x.transpose(1, 2).to(device),
    "every_other": lambda x, device: x[:, ::2].to(device),
    "expanded": lambda x, device: x[:, :1].expand(-1, 16, -1, -1).to(device),
    "copied": lambda x, device: empty(x, device).copy_(x),
    "copied_last": lambda x, device: empty(x, device, memory_format=LAST).copy_(x),
    "copied_wider": lambda x, device: empty(x, device, dtype=torch.float64).copy_(x),
    "copied_wider_at_once": lambda x, device: empty(x, device, dtype=torch.float64).copy_(x, non_blocking=True),
    "copied_broadcast": lambda x, device: empty(x, device).copy_(x[:, :1]),
    "truths": lambda x, device: (x > 0.5).to(device),
}


class Way:
    """Brings images there, and trains a layer."""

    def __init__(self, name):
        self.name = name

    def __call__(self, batch, device):
        net = nn.Linear(3, 3).to(device)

        def step():
            net.zero_grad()
            WAYS[self.name](torch.rand(batch, 16, 12, 20), device)
            net(torch.rand(batch, 3, device=device)).sum().backward()

        return step


STEPS = {name: Way(name) for name in WAYS}
