"""What a recording leaves out of a step, and says so: compilation, and cuDNN's own recurrent layers."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch


class NotRecordedWarning(UserWarning):
    """Something in the step is recorded as if it were not there."""


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


@contextlib.contextmanager
def recurrence_said() -> Iterator[None]:
    """Run recurrent layers cell by cell, and warn that a card runs a layer in one call of cuDNN's.

    Reserved by cuDNN for the backward pass, and its workspace, are what cudnnGetRNNTempSpaceSizes tells there.
    """
    found = []

    def noted(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            found.append(True)
            return kernel(*args, **kwargs)

        return run

    with contextlib.ExitStack() as patches:
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            patches.enter_context(patch.object(torch._VF, name, noted(getattr(torch._VF, name))))
        yield
    if found:
        warnings.warn(
            NotRecordedWarning(
                "a layer of nn.LSTM, nn.GRU or nn.RNN is recorded cell by cell: on a card cuDNN runs it in one call, "
                "whose memory is not recorded"
            ),
            stacklevel=2,
        )
