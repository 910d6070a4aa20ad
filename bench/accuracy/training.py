"""One training of one architecture: resumed where it stopped, watched at every step, stopped where it diverges.

On a CPU the result depends on the settings, the seed and the number of threads, not on interruptions: the order of
the images follows from seed and step, and everything else that changes is in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench.accuracy.evaluation import Network, is_psnr, mean_psnr_db
from bench.accuracy.splits import Splits, batch_of
from bench.data.base import seed_of
from bench.records import Count, Elapsed, Point

if TYPE_CHECKING:
    from bench.accuracy.checkpoint import Checkpoint
    from bench.cells.workload import Workload
    from bench.config import AccuracySection
    from bench.models.anderson import SolveStatistics

EXPLODED = 100.0  # times the loss of the first step, if that is not 0: 20 dB worse than at the start
CURVE_POINTS = 1000  # at about so many steps of a long training the curve has a point
STEPS_UNREAD = 25  # on a GPU: steps whose numbers wait there until the host asks for them

Tell = Callable[[int, str], None]
"""Takes the steps that are done, and how it goes in a few words."""


class DivergedError(Exception):
    """The training came to numbers that lead nowhere."""


class _Progress(BaseModel):
    """What a checkpoint holds beside tensors."""

    model_config = ConfigDict(allow_inf_nan=False)

    step: Count
    first_loss: float | None
    curve: list[Point]
    seconds: Elapsed


class Trainer:
    """A training, from its start or from its checkpoint.

    Attributes:
        model: in training mode.
        step: optimiser steps done.
        curve: what was seen at them.
        seconds: that they took, those before an interruption included; without validation and checkpoints.
    """

    def __init__(
        self,
        workload: Workload,
        options: AccuracySection,
        splits: Splits,
        seed: int,
        device: torch.device,
        checkpoint: Checkpoint,
    ) -> None:
        """Build the network from the seed, or take up the checkpoint if there is one.

        Raises:
            StorageError: the checkpoint is damaged or of another training.
        """
        self.workload = workload
        self.options = options
        self.splits = splits
        self.seed = seed
        self.device = device
        self.checkpoint = checkpoint
        torch.manual_seed(seed)
        self.model = workload.build(device)
        self.optimizer = workload.optimizer(self.model)
        self.step = 0
        self.curve: list[Point] = []
        self.seconds = 0.0
        self._unread: list[Tensor] = []
        self._first_loss: float | None = None
        state = checkpoint.load()
        if state is None:
            self._train_denoiser()
        else:
            try:
                self._restore(state)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise checkpoint.unusable("of another network, or of none") from error

    def _train_denoiser(self) -> None:
        """Before the first step: the proximal network on images with white noise, by Adam, if it is asked for."""
        start = time.perf_counter()
        optimizer = self.workload.optimizer(self.model)
        generator = torch.Generator().manual_seed(seed_of("denoiser", self.seed))
        for step in range(self.options.denoiser_steps):
            image = torch.stack([self.splits.train.images[index] for index in self.indices(step)])
            noise = torch.randn(image.shape, generator=generator)
            denoised = self.model.denoise(self._to_device(image + self.options.denoiser_sigma * noise))
            if denoised is None:
                return
            optimizer.zero_grad(set_to_none=True)
            (denoised - self._to_device(image)).square().mean().backward()
            self.workload.update(self.model, optimizer)
        self.seconds += time.perf_counter() - start

    def run(self, tell: Tell) -> None:
        """Make the steps that are left, and keep the last state as a checkpoint.

        Raises:
            DivergedError: a loss or gradient norm is not finite, or a loss exploded; `curve` ends before it.
            StorageError: a checkpoint cannot be written; the one before stands.
        """
        options = self.options
        while self.step < options.steps:
            start = time.perf_counter()
            self._step()
            validating = self.step % options.validate_every == 0 or self.step == options.steps
            saving = self.step % options.checkpoint_every == 0 or self.step == options.steps
            if validating or saving or self.device.type == "cpu" or len(self._unread) >= STEPS_UNREAD:
                self._read(validating)
            self.seconds += time.perf_counter() - start
            if validating:
                self._validate()
            if saving:
                self.checkpoint.save(self._state())
            tell(self.step, self._status())

    def learning_rate(self, step: int) -> float:
        """That of the step after `step` others: constant, or half a cosine from its full value towards 0."""
        full = self.workload.training.learning_rate
        if self.options.schedule == "constant":
            return full
        return full * (1 + math.cos(math.pi * step / self.options.steps)) / 2

    def indices(self, step: int) -> list[int]:
        """The images of the step after `step` others: epoch after epoch, each in a random order of its own."""
        images, batch = len(self.splits.train), self.options.batch
        places = range(step * batch, (step + 1) * batch)
        return [int(self._order(place // images)[place % images]) for place in places]

    @cached_property
    def _orders(self) -> dict[int, Tensor]:
        return {}

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
            self._orders.pop(epoch - 2, None)
            self._orders[epoch] = torch.randperm(len(self.splits.train), generator=generator)
        return self._orders[epoch]

    def _step(self) -> None:
        """One optimiser step. What is to be known of it stays on the device, unread."""
        image, measurement = (self._to_device(part) for part in batch_of(self.splits.train, self.indices(self.step)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss, reconstruction = self.workload.gradients(self.model, image, measurement)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        gradient_norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.workload.update(self.model, self.optimizer)
        numbers = [loss.detach(), gradient_norm, *self._means(reconstruction.solves)]
        self._unread.append(torch.stack([number.double() for number in numbers]))
        self.step += 1

    def _means(self, solves: list[SolveStatistics]) -> Iterator[Tensor]:
        """Evaluations, residual and share that converged, as means over fixed points and images; of none nothing."""
        if solves:
            residuals = torch.stack([solve.residuals for solve in solves])
            yield torch.stack([solve.evaluations for solve in solves]).double().mean()
            yield residuals.mean()
            yield (residuals <= self.workload.options.solver.tolerance).double().mean()

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _read(self, wanted: bool) -> None:
        """Look at the steps since the last look; keep points of some, and of the last one if `wanted`."""
        rows = torch.stack(self._unread).tolist()
        self._unread.clear()
        every = math.ceil(self.options.steps / CURVE_POINTS)
        for step, (loss, gradient_norm, *solver) in enumerate(rows, self.step - len(rows) + 1):
            self._first_loss = loss if self._first_loss is None else self._first_loss
            if not math.isfinite(loss) or not math.isfinite(gradient_norm):
                raise DivergedError(f"loss {loss:.3g} and gradient norm {gradient_norm:.3g} at step {step}")
            if loss > EXPLODED * self._first_loss > 0:
                raise DivergedError(
                    f"loss {loss:.3g} at step {step}, over {EXPLODED:g} times the first step's {self._first_loss:.3g}"
                )
            if step % every == 0 or (wanted and step == self.step):
                evaluations, residual, converged = solver or (None, None, None)
                self.curve.append(
                    Point(
                        step=step,
                        loss=loss,
                        gradient_norm=gradient_norm,
                        solver_evaluations=evaluations,
                        solver_residual=residual,
                        solver_converged=converged,
                    )
                )

    def _validate(self) -> None:
        """Write the validation's PSNR into the last point."""
        psnr_db = mean_psnr_db(Network(self.model), self.splits.validation, self.splits.metrics, self.device)
        if not is_psnr(psnr_db):
            raise DivergedError(f"validation PSNR {psnr_db} dB at step {self.step}")
        self.curve[-1] = self.curve[-1].model_copy(update={"validation_psnr_db": psnr_db})

    def _status(self) -> str:
        losses = [f"loss {point.loss:.2e}" for point in self.curve[-1:]]
        psnr = (point.validation_psnr_db for point in reversed(self.curve) if point.validation_psnr_db is not None)
        return ", ".join(losses + [f"{value:.1f} dB" for value in [next(psnr, None)] if value is not None])

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "first_loss": self._first_loss,
            "curve": [point.model_dump() for point in self.curve],
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        progress = _Progress.model_validate({name: state[name] for name in _Progress.model_fields})
        if progress.step > self.options.steps:
            raise ValueError(f"step {progress.step} of {self.options.steps}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self._first_loss = progress.step, progress.first_loss
        self.curve, self.seconds = progress.curve, progress.seconds
        torch.set_rng_state(state["random"])
