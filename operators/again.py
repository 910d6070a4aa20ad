"""Checkpoints inside an operator: a function that keeps its arguments and runs again in backward (Chen et al., 2016).

A reconstruction steps along the gradient J(x)^T (y - A(x)) and is trained through it, which differentiates A twice.
So what a backward pass computes here can itself be differentiated once more, again from the arguments alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Step = Callable[..., tuple[Tensor, ...]]
"""Tensors to tensors, without side effects: run a second time it gives the same."""


def run_again(step: Step, *arguments: Tensor) -> tuple[Tensor, ...]:
    """``step(*arguments)``, of which backward finds the arguments and nothing else."""
    if not torch.is_grad_enabled():
        return step(*arguments)
    results: tuple[Tensor, ...] = _Again.apply(step, *arguments)
    return results


class _Again(Function):
    """arguments -> step(*arguments)."""

    @staticmethod
    def forward(ctx: Any, step: Step, *arguments: Tensor) -> tuple[Tensor, ...]:
        ctx.step = step
        ctx.save_for_backward(*arguments)
        return step(*arguments)

    @staticmethod
    def backward(ctx: Any, *vectors: Tensor) -> tuple[Tensor | None, ...]:
        arguments = ctx.saved_tensors
        return None, *_AgainTransposed.apply(ctx.step, ctx.needs_input_grad[1:], *arguments, *vectors)


class _AgainTransposed(Function):
    """arguments, vectors -> J^T vectors, for those arguments that need it; zeros for the others."""

    @staticmethod
    def forward(ctx: Any, step: Step, needed: Sequence[bool], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.step, ctx.needed = step, needed
        ctx.save_for_backward(*tensors)
        with torch.enable_grad():
            arguments, _vectors, gradients = _transposed(step, needed, tensors, create_graph=False)
        return _filled(arguments, needed, gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *vectors: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            arguments, first, gradients = _transposed(ctx.step, ctx.needed, ctx.saved_tensors, create_graph=True)
        wanted = [x for x in (*arguments, *first) if x.requires_grad]
        given = [vector for vector, need in zip(vectors, ctx.needed, strict=True) if need]
        second = iter(torch.autograd.grad(gradients, wanted, given, materialize_grads=True))
        return None, None, *(next(second) if x.requires_grad else None for x in (*arguments, *first))


def _transposed(
    step: Step, needed: Sequence[bool], tensors: Sequence[Tensor], *, create_graph: bool
) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, ...]]:
    """Arguments and vectors as leaves, and J^T vectors for the arguments that need it."""
    count = len(needed)
    arguments = [x.detach().requires_grad_(need) for x, need in zip(tensors[:count], needed, strict=True)]
    vectors = [x.detach().requires_grad_(create_graph) for x in tensors[count:]]
    wanted = [x for x in arguments if x.requires_grad]
    results = step(*arguments)
    gradients = torch.autograd.grad(results, wanted, vectors, create_graph=create_graph, materialize_grads=True)
    return arguments, vectors, gradients


def _filled(arguments: Sequence[Tensor], needed: Sequence[bool], gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    supply = iter(gradients)
    return tuple(next(supply) if need else torch.zeros_like(x) for x, need in zip(arguments, needed, strict=True))


def march(
    segment: Callable[[int, int], Step], constants: Sequence[Tensor], state: Sequence[Tensor], steps: int, every: int
) -> list[Tensor]:
    """A state taken through `steps` time steps, `every` of them at a time: what each segment gives besides its state.

    Args:
        segment: (first, last) -> what takes constants and state through the steps first ... last - 1, to the state
            then and one tensor more.
        constants: that every step depends on.
        state: before the first step.
        steps: in all.
        every: of the states, those that are kept for backward, which computes the others again; 1: autograd keeps
            what it needs of every step.
    """
    if every == 1:
        *_, given = segment(0, steps)(*constants, *state)
        return [given]
    all_given = []
    for first in range(0, steps, every):
        *state, given = run_again(segment(first, min(first + every, steps)), *constants, *state)
        all_given.append(given)
    return all_given


MOST_STEPS = 100_000


def check_marching(name: str, steps: int, every: int) -> None:
    """See that `march` can take so many time steps, so many at a time.

    Raises:
        ValueError: it cannot.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"{name} got {steps} steps, expected at least 1 and at most {MOST_STEPS:,}")
    if not 1 <= every <= steps:
        raise ValueError(
            f"{name} got stored_every {every}, expected 1 (all that backward needs is stored) to {steps} (the first "
            "state alone is)"
        )
