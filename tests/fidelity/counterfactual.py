"""An image that is changed until a network answers otherwise: its memory was recorded on a card; in our own words.

The network is small and never trained here: three times convolution, batch normalisation and pooling, then four linear
layers. One call is one update of the image by Adam under autograd's anomaly detection. Sizes and order follow the
history (tests/fidelity/histories.py), which has the first ten.
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS, SIDE = 30, 256
BATCH, STEPS = 1, 10  # of the history
WIDTHS, FEATURES = (16, 32, 64), (200, 100, 20)


def change_image(batch, device):
    """One update of the image; the network has answered for the first image before."""
    network = Network().to(device).requires_grad_(False)
    images = torch.zeros(batch, CHANNELS, SIDE, SIDE)
    answer = network(images.to(device))
    images, changed = images.to(device), images.to(device).requires_grad_()
    optimizer = torch.optim.Adam([changed])
    kept = {}  # what has a name in the loop lives until it has another value

    def step():
        with torch.autograd.set_detect_anomaly(True):
            kept["answer"] = network(changed)
            kept["loss"] = image_distance(changed, images) - answer_distance(kept["answer"], answer)
            kept["of images"] = image_distance(changed, images).detach()
            kept["of answers"] = -answer_distance(kept["answer"], answer).detach()
            kept["loss"].backward(torch.ones_like(kept["loss"]))
            optimizer.step()
            optimizer.zero_grad()

    return step


def image_distance(changed, images):
    return ((changed - images) ** 2).mean()


def answer_distance(changed, answer):
    return (changed - answer) ** 2


class Network(nn.Module):
    """Images (batch, CHANNELS, SIDE, SIDE) to one number each, (batch, 1)."""

    def __init__(self):
        super().__init__()
        channels, self.convolutions, self.norms = CHANNELS, nn.ModuleList(), nn.ModuleList()
        for width in WIDTHS:
            self.convolutions.append(nn.Conv2d(channels, width, 3, padding="same"))
            self.norms.append(nn.BatchNorm2d(width))
            channels = width
        self.layers = nn.ModuleList()
        for features in FEATURES:
            self.layers.append(nn.Linear(channels, features))
            channels = features
        self.last = nn.Linear(channels, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(torch.relu(convolution(x)))
            x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.max_pool2d(x, x.shape[-1]).flatten(1)
        for layer in self.layers:
            x = torch.relu(layer(self.dropout(x)))
        return self.last(x)
