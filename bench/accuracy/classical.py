"""What needs no training: the initialisation, gradient descent on least squares, and total variation.

Each has at most one parameter, chosen on the validation images from a small grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bench.accuracy.evaluation import Reconstruct
    from bench.operators.base import LinearOperator

TV_ITERATIONS = 200


@dataclass(frozen=True)
class Method:
    """A classical method: ``reconstruct(operator, y, value)`` with the value of its parameter.

    Attributes:
        parameter: its name.
        grid: of values to choose from; a method with one value has nothing to choose.
        reconstruct: from measurements [B, *measurement_shape] to images [B, C, H, W].
    """

    parameter: str
    grid: tuple[float, ...]
    reconstruct: Callable[[LinearOperator, Tensor, float], Tensor]

    def at(self, operator: LinearOperator, value: float) -> Reconstruct:
        """The method with its parameter's value."""
        return lambda y: self.reconstruct(operator, y, value)


def initialisation(operator: LinearOperator, y: Tensor, iterations: float = 0) -> Tensor:
    """x_0, from which every architecture starts: y for deblurring, A^T y otherwise."""
    return operator.initial_estimate(y)


def gradient_descent(operator: LinearOperator, y: Tensor, iterations: float) -> Tensor:
    """Least squares from x_0 by x <- x + A^T (y - A x), which converges for ||A||^2 < 2 (Landweber).

    Stopping early is its regularisation: noise comes up later than the image.
    """
    x = operator.initial_estimate(y)
    for _ in range(int(iterations)):
        x = x + operator.adjoint(y - operator(x))
    return x


def total_variation(operator: LinearOperator, y: Tensor, weight: float, iterations: int = TV_ITERATIONS) -> Tensor:
    """argmin_x |A x - y|^2 / 2 + weight TV(x) for ||A|| <= 1, by the primal-dual method of Chambolle and Pock (2011).

    TV(x) = sum over pixels of |D x|, D the forward differences to the right and below of all channels together (0 at
    the border). Both terms are dual, K = (A, D) with ||K||^2 <= 1 + 8, steps tau = sigma = 1/3.
    """
    step = 1 / 3
    x = leading = operator.initial_estimate(y)
    residual = torch.zeros_like(y)
    edges = torch.zeros_like(differences(x))
    for _ in range(iterations):
        residual = (residual + step * (operator(leading) - y)) / (1 + step)
        edges = _within(edges + step * differences(leading), weight)
        previous, x = x, x - step * (operator.adjoint(residual) + differences_adjoint(edges))
        leading = 2 * x - previous
    return x


def differences(x: Tensor) -> Tensor:
    """D x: forward differences along H and W, 0 at the last row and column: [B, C, H, W] -> [B, 2, C, H, W]."""
    d = x.new_zeros(x.shape[0], 2, *x.shape[1:])
    d[:, 0, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    d[:, 1, :, :, :-1] = x[..., 1:] - x[..., :-1]
    return d


def differences_adjoint(d: Tensor) -> Tensor:
    """D^T d: [B, 2, C, H, W] -> [B, C, H, W]."""
    rows, columns = d[:, 0, :, :-1], d[:, 1, :, :, :-1]
    x = torch.zeros_like(d[:, 0])
    x[:, :, 1:] += rows
    x[:, :, :-1] -= rows
    x[..., 1:] += columns
    x[..., :-1] -= columns
    return x


def _within(edges: Tensor, weight: float) -> Tensor:
    """Each pixel's edges, over directions and channels, shortened to at most `weight`."""
    length = torch.linalg.vector_norm(edges, dim=(1, 2), keepdim=True)
    shortened: Tensor = edges * (weight / length.clamp(min=weight))
    return shortened


METHODS: dict[str, Method] = {
    "initialisation": Method("iterations", (0,), initialisation),
    "gradient descent": Method("iterations", (1, 2, 5, 10, 20, 50, 100, 200), gradient_descent),
    "total variation": Method("weight", (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), total_variation),
}
