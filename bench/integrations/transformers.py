"""A callback for transformers' Trainer: Trainer(..., callbacks=[FitCallback(gpu="RTX 4090")])."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from bench.integrations.checking import TrainersStep, check, told


class FitCallback(TrainerCallback):
    """Before training starts: does the batch fit the card `gpu`, or any of capacity `cap`? Says the largest that does.

    Raises:
        DoesNotFitError: as training begins, the batch does not fit.
        NotRecordableError: the step cannot be recorded.
        ValueError: not exactly one of `gpu` and `cap`, or no known card.
    """

    def __init__(self, *, gpu: str | None = None, cap: str | None = None) -> None:
        self._gpu, self._cap = gpu, cap

    def on_train_begin(self, args: Any, state: Any, control: Any, **trainers: Any) -> None:
        """Ask, with the trainer's model, optimiser and first batch."""
        optimizer = trainers["optimizer"]
        step = TrainersStep(
            trainers["model"],
            getattr(optimizer, "optimizer", optimizer),  # within accelerate's
            lambda model, inputs: _loss(model(**inputs)),
            next(iter(trainers["train_dataloader"])),
            torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None,
            args.gradient_accumulation_steps,
        )
        print(told(check(step, self._gpu, self._cap, type(step.model).__name__)))


def _loss(output: Any) -> Any:
    """As the trainer takes it."""
    return output["loss"] if isinstance(output, dict) else output[0]
