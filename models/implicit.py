"""Gradients through a fixed point, without the solver's history (paper, section 2.2; Bai et al., 2019).

At z* = f(z*; theta) the loss's gradient g = dL/dz* reaches anything that f depends on as

    dL/dtheta = v^T df/dtheta,   where v solves   v = g + J^T v,   J = df/dz at z*.

So a backward pass needs one evaluation of f with its graph, not the solver's fifty. The variants differ in
how many such f-graphs are alive, and when:

    two-graph        2 per fixed point         exact     the DEQ4IP authors' way
    one-graph        1 per fixed point         exact     the backward solve goes through the same graph
    jacobian-free    1 per fixed point         biased    takes v = g (Fung et al., 2022)
    phantom          k per fixed point         biased    damped steps from z*, with their graph (Geng et al., 2021)
    recomputed       1 for the whole network   exact     saves z* and f's inputs, rebuilds the graph in backward

In all of them but phantom the output is f(z*), one evaluation past the solver's last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .anderson import SolverOptions, SolveStatistics, solve
from .precision import as_now

Map = Callable[[Tensor], Tensor]
"""z -> f(z), shape (B, ...) to the same shape; no side effects."""

Family = Callable[..., Map]
"""inputs -> f. Whatever f depends on and the gradient has to reach stands among the inputs, weights too;
what does not depend on z is computed here, once per fixed point."""


def fixed_point(
    family: Family,
    inputs: Sequence[Tensor],
    start: Tensor,
    *,
    gradient: str = "one-graph",
    solver: SolverOptions,
    backward_solver: SolverOptions | None = None,
) -> tuple[Tensor, SolveStatistics]:
    """The fixed point of ``f = family(*inputs)``, differentiable in `inputs` (but not twice, nor in `start`).

    Args:
        family: makes f from its inputs.
        inputs: tensors of any shapes.
        start: the solver's first iterate, shape (B, ...).
        gradient: one of `GRADIENTS`.
        solver: of z = f(z).
        backward_solver: of v = g + J^T v; as `solver` if None.

    Returns:
        f(z*), shape (B, ...), and what the solve took.
    """

    def in_type_of_z(*inputs: Tensor) -> Map:  # under torch.autocast a network's last layer may give another
        f = family(*inputs)
        return lambda z: f(z).to(z.dtype)

    return gradient_called(gradient)(in_type_of_z, inputs, start.detach(), solver, backward_solver or solver)


PHANTOM_STEPS = 3
PHANTOM_DAMPING = 0.5
"""The share of f(z) in each step; the rest is z."""

Solved = tuple[Tensor, SolveStatistics]


def _one_graph(
    family: Family, inputs: Sequence[Tensor], start: Tensor, solver: SolverOptions, backward: SolverOptions
) -> Solved:
    f = family(*inputs)
    z, statistics = solve(f, start, solver)
    if not torch.is_grad_enabled():
        return f(z), statistics
    z = _Start.apply(z.requires_grad_())
    image = f(z)
    return _SolveBackward.apply(image, (image, z), statistics, backward), statistics


def _two_graph(
    family: Family, inputs: Sequence[Tensor], start: Tensor, solver: SolverOptions, backward: SolverOptions
) -> Solved:
    f = family(*inputs)
    z, statistics = solve(f, start, solver)
    image = f(z)
    if not torch.is_grad_enabled():
        return image, statistics
    z = image.detach().requires_grad_()
    return _SolveBackward.apply(image, (f(z), z), statistics, backward), statistics


def _jacobian_free(
    family: Family, inputs: Sequence[Tensor], start: Tensor, solver: SolverOptions, backward: SolverOptions
) -> Solved:
    f = family(*inputs)
    z, statistics = solve(f, start, solver)
    return f(z), statistics


def _phantom(
    family: Family, inputs: Sequence[Tensor], start: Tensor, solver: SolverOptions, backward: SolverOptions
) -> Solved:
    f = family(*inputs)
    z, statistics = solve(f, start, solver)
    if not torch.is_grad_enabled():
        return f(z), statistics
    for _ in range(PHANTOM_STEPS):
        z = torch.lerp(z, f(z), PHANTOM_DAMPING)
    return z, statistics


def _recomputed(
    family: Family, inputs: Sequence[Tensor], start: Tensor, solver: SolverOptions, backward: SolverOptions
) -> Solved:
    with torch.no_grad():
        f = family(*inputs)
        z, statistics = solve(f, start, solver)
    return _Recompute.apply(family, f, z, statistics, backward, *inputs), statistics


GRADIENTS: dict[str, Callable[..., Solved]] = {
    "one-graph": _one_graph,
    "two-graph": _two_graph,
    "jacobian-free": _jacobian_free,
    "phantom": _phantom,
    "recomputed": _recomputed,
}


def gradient_called(name: str) -> Callable[..., Solved]:
    """The variant called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in GRADIENTS:
        raise ValueError(f"unknown gradient {name!r}; known gradients: {', '.join(GRADIENTS)}")
    return GRADIENTS[name]


def _solve_backward(image: Tensor, z: Tensor, g: Tensor, statistics: SolveStatistics, options: SolverOptions) -> Tensor:
    """Solve v = g + J^T v by vector-Jacobian products through the graph from `z` to `image`, which stays alive."""

    def adjoint(v: Tensor) -> Tensor:
        return g + torch.autograd.grad(image, z, v, retain_graph=True)[0]

    v, statistics.backward = solve(adjoint, g, options)
    return v


class _Start(Function):
    """z -> z, where the gradient ends: the engine's last pass leaves nothing behind in a leaf's ``grad``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> None:
        return None


class _SolveBackward(Function):
    """image -> image; its backward replaces g by v, which the engine then takes on into f's inputs.

    Holding the graph as saved tensors of this node, rather than in a hook on its output, makes no reference
    cycle: the graph goes with the output, whether backward ever runs or not, and is freed once it has.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, graph: tuple[Tensor, Tensor], statistics: SolveStatistics, options: SolverOptions
    ) -> Tensor:
        ctx.save_for_backward(*graph)
        ctx.statistics, ctx.options = statistics, options
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        image, z = ctx.saved_tensors
        return _solve_backward(image, z, g, ctx.statistics, ctx.options), None, None, None


class _Recompute(Function):
    """inputs -> f(z*); its backward rebuilds the graph of f at z*, solves for v and takes v into the inputs.

    It does so twice: the solve needs a graph to z alone, which keeps less, and is over before that to the inputs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        family: Family,
        f: Map,
        z: Tensor,
        statistics: SolveStatistics,
        options: SolverOptions,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(z, *inputs)
        ctx.family, ctx.statistics, ctx.options, ctx.in_network = family, statistics, options, as_now(z)
        return f(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, *inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[-len(inputs) :]
        inputs = [x.detach() for x in inputs]
        with torch.enable_grad(), ctx.in_network():
            z = z.detach().requires_grad_()
            image = ctx.family(*inputs)(z)
        v = _solve_backward(image, z, g, ctx.statistics, ctx.options)
        del image
        with torch.enable_grad(), ctx.in_network():
            inputs = [x.requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
            image = ctx.family(*inputs)(z.detach())
        wanted = [x for x in inputs if x.requires_grad]
        gradients = iter(torch.autograd.grad(image, wanted, v, allow_unused=True))
        return None, None, None, None, None, *(next(gradients) if need else None for need in needed)
