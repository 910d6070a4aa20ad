"""What needs no training: the initialisation, filtered backprojection, gradient descent, and total variation.

Each has at most one parameter, chosen on the validation images from a grid. What minimises something does so until a
duality gap says that it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bench.operators.base import LinearOperator, Operator
    from bench.operators.radon import Radon

GAP = 1e-3
"""Of the objective: the duality gap at which total variation is minimised; PSNR moves by 0.01 dB beyond it."""

MOST_ITERATIONS = 10_000
LOOK_EVERY = 50  # iterations between two looks at the gap
RATIO = 16.0  # of the primal to the dual step: 1 takes ten times as many iterations

Minimised = tuple[Tensor, "Tensor | None"]
"""Images [B, C, H, W], and of each the relative duality gap, [B]; None of what minimises nothing."""

Reconstruction = Callable[["Operator", Tensor, float], Minimised]


@dataclass(frozen=True)
class Method:
    """A classical method: ``reconstruct(operator, y, value)`` with the value of its parameter.

    Attributes:
        parameter: its name.
        grid: of values to choose from; a method with one value has nothing to choose.
        reconstruct: from measurements [B, *measurement_shape] to images [B, C, H, W] and their gaps.
        nearly: the same to a gap that is enough to choose among the grid; None: as `reconstruct`.
    """

    parameter: str
    grid: tuple[float, ...]
    reconstruct: Reconstruction
    nearly: Reconstruction | None = None

    def at(self, operator: Operator, value: float, *, nearly: bool = False) -> Classical:
        """The method with its parameter's value."""
        return Classical((self.nearly if nearly else None) or self.reconstruct, operator, value)


@dataclass
class Classical:
    """A method with its parameter's value, as a method of reconstruction.

    Attributes:
        worst_gap: the largest relative duality gap of all its images so far; None if it minimises nothing.
    """

    reconstruct: Reconstruction
    operator: Operator
    value: float
    worst_gap: float | None = field(default=None, init=False)

    def __call__(self, y: Tensor) -> Tensor:
        """Measurements [B, *measurement_shape] to images [B, C, H, W]."""
        image, gaps = self.reconstruct(self.operator, y, self.value)
        if gaps is not None:
            self.worst_gap = max(self.worst_gap or 0.0, float(gaps.max()))
        return image


def initialisation(operator: Operator, y: Tensor, iterations: float = 0) -> Minimised:
    """x_0, from which every architecture starts: y for deblurring, A^T y otherwise."""
    return operator.initial_estimate(y), None


def filtered_backprojection(operator: Operator, y: Tensor, cutoff: float) -> Minimised:
    """The ramp filter under a Hann window that ends at `cutoff` times the detector's highest frequency, for CT."""
    return cast("Radon", operator).filtered_backprojection(y, cutoff), None


def gradient_descent(operator: Operator, y: Tensor, iterations: float) -> Minimised:
    """Least squares from x_0 by x <- x + A^T (y - A x), which converges for ||A||^2 < 2 (Landweber).

    Where A is not linear, A^T is that of its Jacobian at x.

    Stopping early is its regularisation: noise comes up later than the image. So it has no gap.
    """
    x = operator.initial_estimate(y)
    for _ in range(int(iterations)):
        x = x + operator.descent(x, y)
    return x, None


def total_variation(
    operator: Operator, y: Tensor, weight: float, gap: float = GAP, iterations: int = MOST_ITERATIONS
) -> Minimised:
    """argmin_x |A x - y|^2 / 2 + weight TV(x) for ||A|| <= 1, by the primal-dual method of Chambolle and Pock (2011).

    TV(x) = sum over pixels of |D x|, D the forward differences to the right and below of all channels together (0 at
    the border). Both terms are dual, K = (A, D) with ||K||^2 <= 1 + 8, steps tau = RATIO / 3, sigma = 1 / (3 RATIO).

    Args:
        operator: A.
        y: measurements, shape (B, *measurement_shape).
        weight: of the total variation.
        gap: relative duality gap of every image at which to stop; 0: after so many `iterations`.
        iterations: at most.
    """
    linear = cast("LinearOperator", operator.seen_in(y))
    tau, sigma = RATIO / 3, 1 / (3 * RATIO)
    x = leading = operator.initial_estimate(y)
    residual = torch.zeros_like(y)
    edges = torch.zeros_like(differences(x))
    gaps = y.new_full((len(y),), inf)
    for done in range(1, iterations + 1):
        residual = (residual + sigma * (linear(leading) - y)) / (1 + sigma)
        edges = _within(edges + sigma * differences(leading), weight)
        previous, x = x, x - tau * (linear.adjoint(residual) + differences_adjoint(edges))
        leading = 2 * x - previous
        if done % LOOK_EVERY == 0 or done == iterations:
            gaps = duality_gap(linear, y, weight, x, residual, edges)
            if float(gaps.max()) <= gap:
                break
    return x, gaps


def duality_gap(
    operator: LinearOperator, y: Tensor, weight: float, x: Tensor, residual: Tensor, edges: Tensor
) -> Tensor:
    """How far the objective at x can be above its minimum, over the objective at x, [B].

    For every p and every q with |q| <= weight at each pixel, the objective of an image u is at least

    <A u - y, p> - |p|^2 / 2 + <D u, q> >= -<y, p> - |p|^2 / 2 - r |A^T p + D^T q|_1   where |u| <= r everywhere,

    by Fenchel's and Hoelder's inequalities. r is twice the largest value of x: the minimum over images within it.
    """
    variation = torch.linalg.vector_norm(differences(x), dim=(1, 2)).flatten(1).sum(1)
    primal = (operator(x) - y).flatten(1).square().sum(1) / 2 + weight * variation
    p, slope = residual.flatten(1), operator.adjoint(residual) + differences_adjoint(edges)
    dual = -(y.flatten(1) * p).sum(1) - p.square().sum(1) / 2
    dual -= 2 * x.flatten(1).abs().amax(1) * slope.flatten(1).abs().sum(1)
    relative: Tensor = (primal - dual) / primal.clamp(min=torch.finfo(primal.dtype).tiny)
    return relative


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
    "filtered backprojection": Method("cutoff", (0.3, 0.5, 0.7, 1.0, 1.5, 2.5, 10.0), filtered_backprojection),
    "gradient descent": Method("iterations", (1, 2, 5, 10, 20, 50, 100, 200), gradient_descent),
    "total variation": Method(
        "weight",
        (3e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 3e-2, 1e-1),
        total_variation,
        partial(total_variation, gap=10 * GAP, iterations=MOST_ITERATIONS // 10),
    ),
}
