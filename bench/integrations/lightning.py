"""A callback for Lightning: Trainer(callbacks=[FitCallback(gpu="RTX 4090")])."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Callback

from bench.integrations.checking import TrainersStep, check, told

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class FitCallback(Callback):
    """Before training starts: does the batch fit the card `gpu`, or any of capacity `cap`? Says the largest that does.

    Raises:
        DoesNotFitError: as training begins, the batch does not fit.
        NotRecordableError: the step cannot be recorded.
        ValueError: not exactly one of `gpu` and `cap`, or no known card.
    """

    def __init__(self, *, gpu: str | None = None, cap: str | None = None) -> None:
        self._gpu, self._cap = gpu, cap

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Ask, with the trainer's module, its first optimiser and its first batch."""
        step = TrainersStep(
            _alone(pl_module),
            trainer.optimizers[0],
            lambda module, batch: _loss(module.training_step(batch, 0)),
            next(iter(trainer.train_dataloader)),
            _DTYPES.get(trainer.precision),
            trainer.accumulate_grad_batches,
        )
        print(told(check(step, self._gpu, self._cap, type(pl_module).__name__)))


def _alone(module: Any) -> Any:
    """A copy that no trainer has, and that logs nothing."""
    trainer, module._trainer = module._trainer, None
    try:
        alone = copy.deepcopy(module)
    finally:
        module._trainer = trainer
    alone.log = alone.log_dict = _nothing
    return alone


def _nothing(*args: Any, **kwargs: Any) -> None: ...


def _loss(output: Any) -> Any:
    return output["loss"] if isinstance(output, dict) else output
