"""A small training step whose history the virtual card left: tests/golden/virtual/snapshot-2.14.pickle."""

import torch
from torch import nn

BATCH = 6


def make_step(batch, device):
    """A classifier of vectors, trained by AdamW."""
    net = nn.Sequential(nn.Linear(300, 700), nn.GELU(), nn.LayerNorm(700), nn.Linear(700, 100)).to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    vectors = torch.zeros(batch, 900, 300, device=device)
    classes = torch.zeros(batch * 900, dtype=torch.int64, device=device)

    def step():
        optimizer.zero_grad()
        scores = net(vectors).flatten(0, 1)
        nn.functional.cross_entropy(scores, classes).backward()
        optimizer.step()

    return step
