"""What can be changed of a training step from outside, without a change of its network."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from bench.fitting.observed import Observed

Context = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Change:
    """A way to run the same step with other memory.

    Attributes:
        name: as `--strategy` and the tables have it.
        summary: what it does, in a few words.
        running: the context within which the step runs.
        building: the one within which it is built; None where that is as ever.
        refusal: why a step cannot be run so, or "".
        gradient: "exact", or what else becomes of it.
    """

    name: str
    summary: str
    running: Context
    refusal: Callable[[Observed], str]
    building: Context | None = None
    gradient: str = "exact"


@contextlib.contextmanager
def around_forward(made: Context) -> Iterator[None]:
    """A context that is left where backward begins and entered anew behind it, as one writes it by hand.

    with made():
        loss = ...
    loss.backward()
    """
    backward = torch.autograd.backward
    now = contextlib.ExitStack()
    now.enter_context(made())
    is_outside = False

    @functools.wraps(backward)
    def outside(*args: Any, **kwargs: Any) -> None:
        nonlocal is_outside
        if is_outside:  # a checkpoint's own
            return backward(*args, **kwargs)
        now.close()
        is_outside = True
        try:
            backward(*args, **kwargs)
        finally:
            is_outside = False
            now.enter_context(made())

    with patch.object(torch.autograd, "backward", outside), now:
        yield
