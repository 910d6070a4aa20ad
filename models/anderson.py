"""Fixed points z = f(z) of a batch of maps, by Anderson acceleration (Anderson, 1965; paper, section 3).

With F_i = f(z_i), G_i = F_i - z_i over the last m iterates, the next iterate is

    z = sum_i alpha_i (F_i - (1 - beta) G_i),
    alpha = argmin |sum_i alpha_i G_i|^2 + lambda sum_i alpha_i^2 |G_i|^2   subject to   sum_i alpha_i = 1,

so alpha = w / sum(w) with H w = 1, where H is the Gram matrix of the G_i with its diagonal times 1 + lambda.
The ridge is relative to each residual's own size: the iteration does not change when f is rescaled, and it
goes on converging however small the residuals become. Every sample of the batch has its own alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .precision import as_now, full_precision

METHODS = ("anderson", "plain")
MOST_EVALUATIONS = 10_000
_LARGER_RIDGE = 100.0


@dataclass(frozen=True)
class SolverOptions:
    """How to find a fixed point.

    Attributes:
        method: "anderson", or "plain" for z <- f(z).
        memory: m, iterates that the next one is made of.
        beta: share of f(z_i), the rest being z_i.
        ridge: lambda above; where the system is singular, 100 times it, and then plain iteration.
        max_evaluations: of f, at most.
        tolerance: of the relative residual |f(z) - z| / |f(z)|; 0 always makes `max_evaluations`.
        check_every: evaluations between two looks (host synchronisations) at whether all samples are done.
    """

    method: str = "anderson"
    memory: int = 5
    beta: float = 1.0
    ridge: float = 1e-4
    max_evaluations: int = 50
    tolerance: float = 1e-3
    check_every: int = 5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown solver method {self.method!r}; known methods: {', '.join(METHODS)}")
        for name in ("memory", "max_evaluations", "check_every"):
            if not 1 <= getattr(self, name) <= MOST_EVALUATIONS:
                got = getattr(self, name)
                raise ValueError(f"solver option {name} must be at least 1 and at most {MOST_EVALUATIONS:,}, got {got}")
        for name in ("ridge", "tolerance"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"solver option {name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 < self.beta <= 1:
            raise ValueError(f"solver option beta must be in (0, 1], got {self.beta}")


@dataclass
class SolveStatistics:
    """What a solve took; tensors on the solve's device, so that asking is the reader's synchronisation.

    Attributes:
        evaluations: of f until the sample stopped, shape (B,), integers.
        residuals: |f(z) - z| / |f(z)| at the returned z, shape (B,); inf if f was never finite.
        backward: of the solve for the gradient, once the backward pass has made it.
    """

    evaluations: Tensor
    residuals: Tensor
    backward: SolveStatistics | None = None


def solve(f: Callable[[Tensor], Tensor], start: Tensor, options: SolverOptions) -> tuple[Tensor, SolveStatistics]:
    """The iterate of each sample with the smallest relative residual, shape (B, ...) as `start`.

    A sample stops at its own first iterate within the tolerance, or as soon as f is not a number there;
    it is then frozen, so that its result does not depend on its neighbours in the batch.

    Memory: 2 m tensors of the size of `start`, beside the iterate, the best one and f's own needs.

    Args:
        f: the map, (B, ...) -> (B, ...), acting on each sample.
        start: first iterate, shape (B, ...).
        options: see `SolverOptions`.
    """
    in_network = as_now(start)

    def evaluate(z: Tensor) -> Tensor:
        with in_network():
            return f(z)

    with torch.no_grad(), full_precision(start):
        return _solved(evaluate, start, options)


def _solved(f: Callable[[Tensor], Tensor], start: Tensor, options: SolverOptions) -> tuple[Tensor, SolveStatistics]:
    batch, size = start.shape[0], prod(start.shape[1:])
    memory = min(options.memory, options.max_evaluations) if options.method == "anderson" else 1
    per_sample = (batch,) + (1,) * (start.dim() - 1)
    tiny = torch.finfo(start.dtype).tiny

    F = start.new_empty(batch, memory, size)
    G = torch.empty_like(F)
    gram = start.new_zeros(batch, memory, memory, dtype=torch.promote_types(start.dtype, torch.float32))
    latest = torch.eye(memory, dtype=gram.dtype, device=gram.device)  # row i: all the weight on iterate i
    ridges = torch.stack((1 + options.ridge * latest, 1 + _LARGER_RIDGE * options.ridge * latest)).unsqueeze(1)

    F_at, G_at, rows, columns = F.unbind(1), G.unbind(1), gram.unbind(1), gram.unbind(2)
    latest_at = latest.unbind(0)

    z = best = start
    smallest = start.new_full((batch,), inf)
    active = torch.ones(batch, dtype=torch.bool, device=start.device)
    evaluations = torch.zeros(batch, dtype=torch.int64, device=start.device)

    for k in range(options.max_evaluations):
        slot, used = k % memory, min(k + 1, memory)
        image = f(z).flatten(1)
        F_at[slot].copy_(image)
        torch.sub(image, z.flatten(1), out=G_at[slot])
        products = torch.bmm(_first(used, G, 1), G_at[slot].unsqueeze(2)).squeeze(2)
        _first(used, rows[slot], 1).copy_(products)
        _first(used, columns[slot], 1).copy_(products)

        residual = products.select(1, slot).sqrt() / torch.linalg.vector_norm(image, dim=1).add_(tiny)
        del image
        evaluations += active
        better = active & (residual < smallest)
        smallest = torch.where(better, residual, smallest)
        best = torch.where(better.view(per_sample), z, best)
        active = active & (residual > options.tolerance)  # False for NaN

        if k + 1 == options.max_evaluations or _all_done(active, k + 1, options):
            break
        alpha = latest[:1, :1].expand(batch, 1)
        if used > 1:
            gram_used, ridges_used = (_first(used, _first(used, full, -1), -2) for full in (gram, ridges))
            alpha = _weights(gram_used, ridges_used, _first(used, latest_at[slot], 0))
        alpha = alpha.to(F.dtype).unsqueeze(1)
        mixed = torch.bmm(alpha, _first(used, F, 1))
        if options.beta != 1:
            mixed.baddbmm_(alpha, _first(used, G, 1), alpha=options.beta - 1)
        z = torch.where(active.view(per_sample), mixed.view_as(start), best)
        del mixed
    return best, SolveStatistics(evaluations, smallest)


def _first(count: int, tensor: Tensor, dim: int) -> Tensor:
    """The first `count` entries along `dim`; the tensor itself where those are all, which spares a view."""
    return tensor if count == tensor.shape[dim] else tensor.narrow(dim, 0, count)


def _weights(gram: Tensor, ridges: Tensor, latest: Tensor) -> Tensor:
    """alpha, shape (B, n), for Gram matrices (B, n, n): with a ridge, else a larger one, else `latest`.

    Both ridged systems, `ridges` of shape (2, 1, n, n), are solved in any case, so that the choice between
    them needs no synchronisation with the host. For the same reason the factor L is applied as two triangular
    solves: on a GPU, cholesky_solve may go to MAGMA, which allocates memory of its own and waits for the device.
    """
    factor, info = torch.linalg.cholesky_ex(gram * ridges)
    w = torch.linalg.solve_triangular(factor, torch.ones_like(factor[..., :1]), upper=False)
    w = torch.linalg.solve_triangular(factor.mT, w, upper=True).squeeze(-1)
    total = w.sum(dim=-1, keepdim=True)
    solved, solved_larger = ((info.unsqueeze(-1) == 0) & (total > 0) & (total < inf)).unbind(0)
    alpha, alpha_larger = (w / total).unbind(0)
    return torch.where(solved, alpha, torch.where(solved_larger, alpha_larger, latest))


def _all_done(active: Tensor, evaluations: int, options: SolverOptions) -> bool:
    """Whether every sample has stopped: a look at the device, taken now and then, where there is a value."""
    if options.tolerance == 0 or evaluations % options.check_every:
        return False
    if active.is_meta or isinstance(active, FakeTensor):
        return False
    return not bool(active.any())
