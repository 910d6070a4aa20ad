"""Operators that are not linear: A(x) as differentiable tensor code, whose Jacobian PyTorch applies.

J(x)^T v is a backward pass through A at x. A network is trained through it, which needs its derivative in x as well;
where no gradient is asked for, the graph of A lives as long as one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .base import Operator


class NonlinearOperator(Operator):
    """A map A that is not linear; a subclass implements ``_apply_forward`` out of differentiable operations."""

    name = ""

    def forward(self, image: Tensor) -> Tensor:
        """A(x): [B, *image_shape] -> [B, *measurement_shape].

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("image", image, self.image_shape)
        measurement: Tensor = _Counted.apply(self._apply_forward(image), self, False)
        return measurement

    def vjp(self, image: Tensor, vector: Tensor) -> Tensor:
        """J(x)^T v of x [B, *image_shape] and v [B, *measurement_shape]: [B, *image_shape], differentiable in both.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("measurement", vector, self.measurement_shape)
        return self._pulled_back(image, lambda _: vector)

    def descent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """J(x)^T (y - A(x)): [B, *image_shape], the direction in which |y - A(x)|^2 / 2 falls fastest.

        A is applied once.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("measurement", measurement, self.measurement_shape)
        return self._pulled_back(image, lambda predicted: measurement - predicted)

    def norm_at(self, image: Tensor, iterations: int = 50) -> float:
        """||J(x)||, the largest singular value at one image [1, C, H, W], by power iteration on J^T J.

        The step x + J(x)^T (y - A(x)) is a descent near x where this is at most 1. Does not touch ``calls``.
        """
        before = replace(self.calls)
        generator = torch.Generator().manual_seed(0)
        direction = torch.rand(image.shape, generator=generator, dtype=torch.float64).to(image)
        norm = 0.0
        for _ in range(iterations):
            direction = direction / direction.norm()
            vector = torch.zeros(1, *self.measurement_shape).to(image).requires_grad_()
            with torch.enable_grad():
                # J^T v is linear in v, so that its derivative in v, whatever v, is J.
                (forth,) = torch.autograd.grad(self.vjp(image.detach(), vector), vector, direction)
            direction = self.vjp(image.detach(), forth)
            norm = direction.norm().item() ** 0.5
        self.calls = before
        return norm

    def _pulled_back(self, image: Tensor, vector_of: Callable[[Tensor], Tensor]) -> Tensor:
        """J(x)^T v, where v = vector_of(A(x)); the graph of A outlives the call only if a gradient goes through it."""
        follows_image = torch.is_grad_enabled() and image.requires_grad
        point = image if follows_image else image.detach().requires_grad_()
        with torch.enable_grad():
            predicted = self(point)
        vector = vector_of(predicted if follows_image else predicted.detach())
        create_graph = torch.is_grad_enabled() and (follows_image or vector.requires_grad)
        (pulled,) = torch.autograd.grad(predicted, point, vector, create_graph=create_graph)
        return pulled

    def _apply_forward(self, image: Tensor) -> Tensor:
        """A(x) without checks or counting, differentiable twice."""
        raise NotImplementedError


class _Counted(torch.autograd.Function):
    """The identity, which counts: A when it is applied, J^T in its backward pass, and J in that one's."""

    @staticmethod
    def forward(ctx: Any, measurement: Tensor, operator: Operator, transposed: bool) -> Tensor:
        ctx.operator, ctx.transposed = operator, transposed
        if transposed:
            operator.calls.adjoint += 1
        else:
            operator.calls.forward += 1
        return measurement.view_as(measurement)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        counted: Tensor = _Counted.apply(gradient, ctx.operator, not ctx.transposed)
        return counted, None, None
