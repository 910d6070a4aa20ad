"""Does the batch that a trainer is about to train on fit? Asked before it starts, of the model that it has.

The step is made anew from the trainer's: a copy of its model, an optimiser of the same kind, and a batch like the
first one, of any size. It is recorded without data; the trainer's own model, batch and GPU stay as they are.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from bench.errors import BenchError
from bench.fitting import Answer, Recorded, fit
from bench.report.terminal.fit import sentences
from bench.step_memory import chosen_card


class DoesNotFitError(BenchError):
    """The batch does not fit: by how much, and the largest that does."""


@dataclass(frozen=True)
class TrainersStep:
    """A step as a trainer runs it.

    Attributes:
        model: Trained; a copy is.
        optimizer: Whose kind and settings the copy's has.
        loss_of: The loss of a model on a batch.
        sample: A batch; of its tensors those whose first dimension is the batch grow with it.
        dtype: Of autocast; None without.
        accumulates: Batches of an update.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_of: Callable[[Any, Any], Tensor]
    sample: Any
    dtype: torch.dtype | None = None
    accumulates: int = 1

    @property
    def batch(self) -> int:
        """Samples of the trainer's batch: the first dimension that a tensor of it has.

        Raises:
            ValueError: there is no tensor with dimensions in it.
        """
        sizes = [len(each) for each in tree_flatten(self._plain)[0] if isinstance(each, Tensor) and each.dim()]
        if not sizes:
            raise ValueError("the first batch has no tensor that tells its size")
        return sizes[0]

    def __call__(self, batch: int) -> Callable[[], None]:
        """Build the step, on a GPU."""
        model = copy.deepcopy(self.model).to("cuda").train()
        optimizer = type(self.optimizer)([each for each in model.parameters() if each.requires_grad], **self._settings)
        scaler = torch.amp.GradScaler("cuda", enabled=self.dtype is torch.float16)
        samples = self.batch

        def like(value: Tensor) -> Tensor:
            grows = value.dim() > 0 and len(value) == samples
            shape = (batch, *value.shape[1:]) if grows else value.shape
            return torch.zeros(shape, dtype=value.dtype, device="cuda")

        def step() -> None:
            for _ in range(self.accumulates):
                inputs = tree_map_only(Tensor, like, self._plain)
                with torch.autocast("cuda", dtype=self.dtype) if self.dtype else contextlib.nullcontext():
                    loss = self.loss_of(model, inputs) / self.accumulates
                scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

        return step

    @property
    def _plain(self) -> Any:
        """The batch with plain dictionaries, into which one can look."""
        return dict(self.sample) if isinstance(self.sample, Mapping) else self.sample

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.optimizer.defaults.items() if name != "decoupled_weight_decay"}


def check(step: TrainersStep, gpu: str | None, cap: str | None, name: str) -> Answer:
    """Ask whether a trainer's batch fits a card; `name` is what the step is called.

    Raises:
        DoesNotFitError: it does not.
        NotRecordableError: the step cannot be recorded.
        ValueError: not one card.
    """
    card, batch = chosen_card(cap, gpu), step.batch
    answer = fit(name, Recorded(lambda batch, device: step(batch), first=card), [card], batch)
    (on_card,) = answer.cards
    assert on_card.asked
    if not on_card.asked.fits:
        raise DoesNotFitError(told(answer))
    return answer


def told(answer: Answer) -> str:
    """The answer in one sentence."""
    return f"{sentences(answer)[0]}; the largest that fits is {answer.cards[0].boundary.batch}"
