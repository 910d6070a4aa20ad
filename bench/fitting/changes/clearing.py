"""Gradients that are cleared are let go, and not filled with zeros."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from torch import nn
from torch.optim import Optimizer

from bench.fitting.changes.change import Change
from bench.fitting.observed import Observed


@contextlib.contextmanager
def _set_to_none() -> Iterator[None]:
    def cleared(zero_grad: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(zero_grad)
        def clear(owner: Any, set_to_none: bool = True) -> None:
            zero_grad(owner, set_to_none=True)

        return clear

    with contextlib.ExitStack() as patches:
        for kind in (Optimizer, nn.Module):
            patches.enter_context(patch.object(kind, "zero_grad", cleared(kind.zero_grad)))
        yield


def _refusal(observed: Observed) -> str:
    return "" if observed.fills_with_zeros else "the step lets its gradients go already"


SET_TO_NONE = Change("set-to-none", "gradients are let go where they are cleared", _set_to_none, _refusal)
