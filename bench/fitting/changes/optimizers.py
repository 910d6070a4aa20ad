"""The optimiser's own mathematics by other kernels: PyTorch's default works on lists, with temporaries as large."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from bench.fitting.changes.change import Change
from bench.fitting.observed import Observed

FUSED = ("Adam", "AdamW", "SGD")
"""Those of torch.optim that have a fused kernel on a GPU."""


@contextlib.contextmanager
def _made_with(**options: bool) -> Iterator[None]:
    """Optimisers of torch.optim are made with these options, as far as they have them."""

    def changed(init: Callable[..., None]) -> Callable[..., None]:
        known = {name: value for name, value in options.items() if name in inspect.signature(init).parameters}

        @functools.wraps(init)
        def made(*args: Any, **kwargs: Any) -> None:
            init(*args, **{**kwargs, **known})

        return made

    with contextlib.ExitStack() as patches:
        for kind in vars(torch.optim).values():
            if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and "__init__" in vars(kind):
                patches.enter_context(patch.object(kind, "__init__", changed(kind.__init__)))
        yield


def _not_fused(observed: Observed) -> str:
    others = sorted(observed.optimizers - set(FUSED))
    if not observed.optimizers:
        return "the step makes no optimiser of torch.optim"
    return f"{', '.join(others)} has no fused kernel; choose one-by-one" if others else ""


def _not_one_by_one(observed: Observed) -> str:
    return "" if observed.optimizers else "the step makes no optimiser of torch.optim"


_in_one_kernel, _one_by_one = (partial(_made_with, fused=fused, foreach=False) for fused in (True, False))
FUSED_OPTIMIZER = Change("fused", "the optimiser in one kernel", _in_one_kernel, _not_fused, _in_one_kernel)
ONE_BY_ONE = Change(
    "one-by-one", "the optimiser on one tensor after the other", _one_by_one, _not_one_by_one, _one_by_one
)
