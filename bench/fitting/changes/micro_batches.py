"""A batch in parts one after the other, whose gradients add up before the optimiser's step.

As one writes it by hand: each part's loss is divided by how many parts there are, gradients are cleared before the
first part's backward, and the optimiser's step is made behind the last one's. What else a step does, such as clipping,
each part does.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.fitting.observed import Observed

NAME = "micro-batches"


class Parts:
    """A step that is called once for each part of a batch."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_running = False
        self._is_last = False
        self._has_gradients = False

    def run(self, step: Callable[[], object]) -> None:
        """Call the step once for each part."""
        self._is_running = True
        try:
            for part in range(self._count):
                self._is_last = part == self._count - 1
                step()
        finally:
            self._is_running = False

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Within this context gradients of parts add up.

        A step is built in it too: a schedule binds the optimiser's step where it is made.
        """
        if self._count == 1:
            yield
            return
        kinds: list[Any] = [Optimizer, *_kinds_of(Optimizer)]
        with contextlib.ExitStack() as patches:
            patches.enter_context(patch.object(torch.autograd, "backward", self._divided(torch.autograd.backward)))
            for kind in kinds:
                if "step" in vars(kind):
                    patches.enter_context(patch.object(kind, "step", self._at_the_end(kind.step)))
            for owner in [*kinds, nn.Module]:
                if "zero_grad" in vars(owner):
                    patches.enter_context(patch.object(owner, "zero_grad", self._at_the_start(owner.zero_grad)))
            yield

    def _divided(self, backward: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(backward)
        def of_a_part(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if self._is_running:
                self._has_gradients = True
                losses = (tensors,) if isinstance(tensors, Tensor) else tensors
                tensors = tuple(loss / self._count for loss in losses)
                del losses
            backward(tensors, *args, **kwargs)

        return of_a_part

    def _at_the_end(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def due(*args: Any, **kwargs: Any) -> Any:
            if self._is_running and not self._is_last:
                return None
            result = step(*args, **kwargs)
            self._has_gradients = False
            return result

        return due

    def _at_the_start(self, clear: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(clear)
        def due(*args: Any, **kwargs: Any) -> None:
            if not (self._is_running and self._has_gradients):
                clear(*args, **kwargs)

        return due


def _kinds_of(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds_of(each)


def counts(batch: int) -> list[int]:
    """Into how many equal parts a batch is divided: each at least twice as many as the last."""
    found = [1]
    for count in range(2, batch + 1):
        if batch % count == 0 and count >= 2 * found[-1]:
            found.append(count)
    return found[1:]


def refusal(observed: Observed) -> str:
    """Why a step's gradients cannot be added up from outside, or ""."""
    if observed.updates != len(observed.kernel_bytes) or not observed.backwards:
        return "the step does not call backward and its optimiser's step, once, in each call"
    if not observed.clears:
        return "the step does not clear its gradients by zero_grad"
    return ""
