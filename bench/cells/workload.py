"""A workload: one architecture on one task, and the training step they make.

The only place where models meet operators.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench import models, operators
from bench.models.precision import device_type
from bench.models.spectral import held
from bench.operators.base import without_values

if TYPE_CHECKING:
    from bench.config import Task, TrainingSection
    from bench.models.anderson import SolverOptions
    from bench.models.architectures.base import Architecture, ModelOptions, Reconstruction


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, foreach=True),
    "adam-one-by-one": partial(torch.optim.Adam, foreach=False),
    "sgd": partial(torch.optim.SGD, foreach=True),
    "adafactor": partial(torch.optim.Adafactor, foreach=True),
}


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
            model = models.get(self.architecture)(operator, self.options)
        if self._has_channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    @property
    def _has_channels_last(self) -> bool:
        return self.training.memory_format == "channels_last"

    def optimizer(self, model: Architecture) -> torch.optim.Optimizer:
        """The configuration's: on lists of tensors (foreach), as on a GPU by default, if its name says nothing else."""
        return OPTIMIZERS[self.training.optimizer](model.parameters(), lr=self.training.learning_rate)

    def gradients(self, model: Architecture, image: Tensor, measurement: Tensor) -> tuple[Tensor, Reconstruction]:
        """Forward and backward, in as many parts as the configuration says: the loss of all, and the last part's pass.

        The gradients of the parts add up to that of the whole where the network does not mix its samples.

        Args:
            model: as `build` makes it, its gradients None or to be added to.
            image: shape (B, *image_shape).
            measurement: shape (B, *measurement_shape).
        """
        losses: list[Tensor] = []
        parts = self.training.micro_batches
        for image_part, measurement_part in zip(image.chunk(parts), measurement.chunk(parts), strict=True):
            others = held(model) if losses else nullcontext()  # singular vectors move with the first part
            with others, self._precision(image), self._waiting(image):
                loss, reconstruction = self.loss(model, image_part, measurement_part)
            if parts > 1:
                loss = loss * (len(image_part) / len(image))
            loss.backward()
            losses.append(loss)
        return (losses[0] if parts == 1 else torch.stack(losses).sum()), reconstruction

    def _precision(self, image: Tensor) -> AbstractContextManager[object]:
        if self.training.autocast == "none":
            return nullcontext()
        return torch.autocast(device_type(image.device), dtype=getattr(torch, self.training.autocast))

    def _waiting(self, image: Tensor) -> AbstractContextManager[object]:
        if self.training.activations == "device":
            return nullcontext()
        return torch.autograd.graph.save_on_cpu(pin_memory=image.is_cuda)

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

        Where the configuration has micro-batches, each of them has so many images: the step has `images(batch)`.
        Memory does not depend on the images' values, so that none are read.
        """
        model = self.build(device)
        optimizer = self.optimizer(model)
        operator = model.operator
        images = self.images(batch)

        def step() -> Tensor:
            image = torch.rand(images, *operator.image_shape, device=device)
            measurement = torch.rand(images, *operator.measurement_shape, device=device)
            if self._has_channels_last:
                image = image.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            loss, _reconstruction = self.gradients(model, image, measurement)
            self.update(model, optimizer)
            return loss.detach()

        return step

    def images(self, batch: int) -> int:
        """How many images a step of `make_step(batch)` has."""
        return batch * self.training.micro_batches

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
