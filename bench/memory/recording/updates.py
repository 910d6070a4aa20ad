"""Optimisers that take no step while a step is recorded, as where gradients are summed over many calls: it is said."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.values import place


@contextlib.contextmanager
def updates_noted() -> Iterator[None]:
    """Within this context training steps are recorded; at its end, warn of optimisers that took none."""
    begin = Optimizer.__init__
    made: list[tuple[weakref.ref[Optimizer], str]] = []
    stepped: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        begin(optimizer, *args, **kwargs)
        made.append((weakref.ref(optimizer), place()))

    hook = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: stepped.add(optimizer))
    try:
        with patch.object(Optimizer, "__init__", init):
            yield
    finally:
        hook.remove()
    for reference, where in made:
        optimizer = reference()
        if optimizer is None or optimizer in stepped or not _has_gradients(optimizer):
            continue
        name = type(optimizer).__name__
        what = f"{name} ({where}) takes no step in the calls that are looked at, so that its state is not counted"
        warnings.warn(NotRecordedWarning(f"{what}: --steps looks at more"), stacklevel=2)


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(each.grad is not None for group in optimizer.param_groups for each in group["params"])
