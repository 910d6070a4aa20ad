"""A workload: one architecture on one task, and the training step they make.

The only place where models meet operators.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench import models, operators
from bench.operators.base import without_values

if TYPE_CHECKING:
    from bench.config import Task, TrainingSection
    from bench.models.anderson import SolverOptions
    from bench.models.architectures.base import Architecture, ModelOptions, Reconstruction


@dataclass(frozen=True)
class Workload:
    """What is trained: an architecture by name, its options, a task and how it is trained.

    Where it `has_values` is False, the operator's constants have the right sizes and any values (`without_values`).
    """

    architecture: str
    options: ModelOptions
    task: Task
    training: TrainingSection
    has_values: bool = True

    def build(self, device: torch.device) -> Architecture:
        """The architecture with its operator, both on `device`."""
        with nullcontext() if self.has_values else without_values():
            operator = operators.get(self.task.operator)(**self.task.options, device=device)
        with device:
            return models.get(self.architecture)(operator, self.options)

    def optimizer(self, model: Architecture) -> torch.optim.Optimizer:
        """Adam on lists of tensors (foreach), as is its default on a GPU."""
        return torch.optim.Adam(model.parameters(), lr=self.training.learning_rate, foreach=True)

    def loss(self, model: Architecture, image: Tensor, measurement: Tensor) -> tuple[Tensor, Reconstruction]:
        """Mean squared error of the last iterate, or the mean over all iterates; and the forward pass it is of.

        The loss is written out: on the CPU the storage that mse_loss keeps for its one number is as large as the
        image, without data it is 4 bytes, and its temporaries are not seen.

        Args:
            model: as `build` makes it.
            image: shape (B, *image_shape).
            measurement: shape (B, *measurement_shape).
        """
        all_iterates = self.training.loss == "auxiliary"
        reconstruction = model(measurement, all_iterates=all_iterates)
        iterates = reconstruction.iterates if all_iterates else [reconstruction.image]
        return torch.stack([(iterate - image).square().mean() for iterate in iterates]).mean(), reconstruction

    def update(self, model: Architecture, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, if the configuration says so, and make the optimiser's step."""
        if self.training.clip_gradient_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.training.clip_gradient_norm, foreach=True)
        optimizer.step()

    def make_step(self, batch: int, device: torch.device) -> Callable[[], Tensor]:
        """One full optimiser step on `batch` random images: forward, loss, backward, update. Returns the loss.

        Memory does not depend on the images' values, so that none are read.
        """
        model = self.build(device)
        optimizer = self.optimizer(model)
        operator = model.operator

        def step() -> Tensor:
            image = torch.rand(batch, *operator.image_shape, device=device)
            measurement = torch.rand(batch, *operator.measurement_shape, device=device)
            optimizer.zero_grad(set_to_none=True)
            loss, _reconstruction = self.loss(model, image, measurement)
            loss.backward()
            self.update(model, optimizer)
            return loss.detach()

        return step

    def for_recording(self) -> Workload:
        """The same workload with solves that are shorter but take the same memory, and never stop early."""
        solver = self.options.solver
        backward = self.options.backward_solver or solver
        return self.with_evaluations(recorded_evaluations(solver), recorded_evaluations(backward))

    def without_values(self) -> Workload:
        """The same workload on a device that computes nothing: constants are allocated and not worked out."""
        return replace(self, has_values=False)

    def with_evaluations(self, forward: int, backward: int) -> Workload:
        """The same workload with solves of exactly so many evaluations."""
        solver = replace(self.options.solver, max_evaluations=forward, tolerance=0.0)
        backward_solver = self.options.backward_solver or self.options.solver
        backward_solver = replace(backward_solver, max_evaluations=backward, tolerance=0.0)
        return replace(self, options=replace(self.options, solver=solver, backward_solver=backward_solver))


def recorded_evaluations(solver: SolverOptions) -> int:
    """How many evaluations of a solve have the memory of all of them.

    Once Anderson's history is full, each evaluation allocates and frees what the one before did. The iterates change
    places in the allocator's blocks at each evaluation, and the history turns every `memory`: a number that is equal
    modulo both leaves every block where the whole solve leaves it (tests/harness/test_recorded_evaluations.py).
    """
    turn = 2 * solver.memory
    every = solver.max_evaluations
    return every if every < 2 * turn else turn + every % turn
