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

NORMS = ("matrix", "convolution")

GRID = 8
"""Pixels of a side of the periodic images on which a convolution's own norm is taken.

The gain of a 3x3 kernel is a trigonometric polynomial of degree 1 in each frequency: between these 8 x 8 frequencies it
rises by at most 1 / cos(pi / 8)^2, 17 %, above what it is at them.
"""


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight W is used as W / sigma(W); adds buffers, no parameters.

    sigma(W) = u^T W v is the largest singular value either of W reshaped to (C_out, C_in * height * width), as is
    usual, or of the convolution itself, on periodic images of `GRID` x `GRID` pixels: the first leaves convolutions
    whose own norm is up to 3. The singular vectors are exact at construction; power iteration, v <- W^T u / |W^T u|,
    u <- W v / |W v|, then follows W as it is trained.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True, norm: str = "matrix"
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.norm = norm
        if norm == "convolution":
            u, v = _singular_fields(self.weight.detach())
        else:
            left, _, right = torch.linalg.svd(self.weight.detach().flatten(1), full_matrices=False)
            u, v = left[:, 0], right[0]
        self.register_buffer("u", u.clone())
        self.register_buffer("v", v.clone())
        self.is_held = False

    @torch.no_grad()
    def iterate(self) -> None:
        """Move u and v towards the leading singular vectors by one power iteration."""
        if self.norm == "convolution":
            self.v.copy_(_unit(_periodic_adjoint(self.u, self.weight)))
            self.u.copy_(_unit(_periodic(self.v, self.weight)))
            return
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
            if self.norm == "convolution":
                return self.weight / torch.dot(u.flatten(), _periodic(v, self.weight).flatten())
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


def _periodic(v: Tensor, weight: Tensor) -> Tensor:
    """The convolution on periodic images, (1, C_in, H, W) -> (1, C_out, H, W)."""
    pad = weight.shape[-1] // 2
    return F.conv2d(F.pad(v, (pad,) * 4, mode="circular"), weight)


def _periodic_adjoint(u: Tensor, weight: Tensor) -> Tensor:
    """Its adjoint, the convolution with the flipped kernel, (1, C_out, H, W) -> (1, C_in, H, W)."""
    return _periodic(u, weight.flip(-2, -1).transpose(0, 1))


def _unit(field: Tensor) -> Tensor:
    unit: Tensor = field / torch.linalg.vector_norm(field)
    return unit


def _singular_fields(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Leading left and right singular vectors of the periodic convolution, each (1, C, GRID, GRID).

    It acts on the plane wave of each frequency as one matrix (C_out, C_in), whose largest singular value over all
    frequencies is the norm (Sedghi et al., 2019).
    """
    if weight.is_meta:  # without values there are none, and the sizes are known
        u, v = (weight.new_empty(1, channels, GRID, GRID) for channels in weight.shape[:2])
        return u, v
    gains = torch.fft.fft2(weight, (GRID, GRID)).conj().permute(2, 3, 0, 1)
    _, values, right = torch.linalg.svd(gains, full_matrices=False)
    row, column = divmod(int(values[..., 0].argmax()), GRID)
    angle = 2 * torch.pi / GRID * (row * torch.arange(GRID).unsqueeze(1) + column * torch.arange(GRID))
    wave = torch.polar(torch.ones(()), angle.to(weight.dtype))
    v = _unit((right[row, column, 0].conj()[:, None, None] * wave).real.unsqueeze(0))
    return _unit(_periodic(v, weight)), v
