"""Spectral normalisation (Miyato et al., 2018) whose result is computed once per forward pass and then held.

torch's own ``spectral_norm`` renormalises whenever the weight is read. Inside a fixed-point solver that
moves the map f from one evaluation to the next, so that f has no fixed point to find; here the caller asks
for the normalised weight once and hands the same tensor to every evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full_precision


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight W is used as W / sigma(W); adds buffers, no parameters.

    sigma(W) is the largest singular value of W reshaped to (C_out, C_in * height * width), sigma = u^T W v. The
    singular vectors are exact at construction; power iteration, v <- W^T u / |W^T u|, u <- W v / |W v|, then
    follows W as it is trained.
    """

    u: Tensor
    v: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        left, _, right = torch.linalg.svd(self.weight.detach().flatten(1), full_matrices=False)
        self.register_buffer("u", left[:, 0].clone())
        self.register_buffer("v", right[0].clone())
        self.is_held = False

    @torch.no_grad()
    def iterate(self) -> None:
        """Move u and v towards the leading singular vectors by one power iteration."""
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(matrix.T @ self.u, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def normalised_weight(self) -> Tensor:
        """W / sigma(W), shape (C_out, C_in, height, width), differentiable in W with u and v held constant.

        Runs one power iteration in training mode and none in evaluation mode. Call it once per forward pass.
        """
        with full_precision(self.weight):
            if self.training and not self.is_held:
                self.iterate()
            u, v = self.u.clone(), self.v.clone()  # the next forward pass moves the buffers under this graph
            return self.weight / torch.dot(u, self.weight.flatten(1) @ v)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, shape (B, C_in, H, W), with the normalised weight: (B, C_out, H, W)."""
        return F.conv2d(x, self.normalised_weight(), self.bias, padding=self.padding)


@contextmanager
def held(model: nn.Module) -> Iterator[None]:
    """Within this context no singular vector of a model moves: for another part of the same batch."""
    convs = [module for module in model.modules() if isinstance(module, SpectralConv2d)]
    for conv in convs:
        conv.is_held = True
    try:
        yield
    finally:
        for conv in convs:
            conv.is_held = False
