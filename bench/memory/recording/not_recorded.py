"""What a recording leaves out of a step, and says so: compilation."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch


class NotRecordedWarning(UserWarning):
    """Something in the step is recorded as if it were not there, or as the most that it can be."""


@contextlib.contextmanager
def compilation_said() -> Iterator[None]:
    """Run as it is what torch.compile compiles, or has compiled, and warn of it."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    compile_, choose = torch.compile, getattr(compiler, "_callback_from_stance", None)
    found = []

    def compile_nothing(*args: Any, **kwargs: Any) -> Any:
        found.append(True)
        return compile_(*args, **{**kwargs, "disable": True})

    def run_as_it_is(callback: Any) -> Any:
        """What to do with a call of something compiled: nothing, where there is a compiler's callback."""
        found.append(callback not in (None, False))
        return callback if callback is False else None

    torch.compile = compile_nothing
    if choose is not None:
        compiler._callback_from_stance = run_as_it_is  # type: ignore[union-attr]
    try:
        yield
    finally:
        torch.compile = compile_
        if choose is not None:
            compiler._callback_from_stance = choose  # type: ignore[union-attr]
        if any(found):
            warnings.warn(
                NotRecordedWarning(
                    "torch.compile is not recorded: the memory told is that of the step without it, and a compiled "
                    "step fuses operations and takes other temporaries"
                ),
                stacklevel=2,
            )
