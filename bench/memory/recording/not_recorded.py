"""What a recording leaves out of a step, and says so: compilation, by torch.compile and TorchScript."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.jit import _state as torch_script


class NotRecordedWarning(UserWarning):
    """Something in the step is recorded as if it were not there, or as the most that it can be."""


@contextlib.contextmanager
def compilation_said() -> Iterator[None]:
    """Run as it is what torch.compile compiles, or has compiled, and warn of it."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    compile_, choose = torch.compile, getattr(compiler, "_callback_from_stance", None)
    found: list[bool] = []
    scripted: list[bool] = []

    def compile_nothing(*args: Any, **kwargs: Any) -> Any:
        found.append(True)
        return compile_(*args, **{**kwargs, "disable": True})

    def run_as_it_is(callback: Any) -> Any:
        """What to do with a call of something compiled: nothing, where there is a compiler's callback."""
        found.append(callback not in (None, False))
        return callback if callback is False else None

    def script_nothing(func: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            scripted.append(not torch_script._enabled)
            return func(*args, **kwargs)

        return call

    script, trace = torch.jit.script, torch.jit.trace
    torch.jit.script, torch.jit.trace = script_nothing(script), script_nothing(trace)
    torch.compile = compile_nothing
    if choose is not None:
        compiler._callback_from_stance = run_as_it_is  # type: ignore[union-attr]
    try:
        yield
    finally:
        torch.compile = compile_
        torch.jit.script, torch.jit.trace = script, trace
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
        if any(scripted):
            warnings.warn(
                NotRecordedWarning(
                    "TorchScript is not recorded: what is scripted or traced is recorded as Python runs it"
                ),
                stacklevel=2,
            )


def _load_nothing() -> None:
    """In place of the scripts of forward derivatives, which begin here."""
    warnings.warn(
        NotRecordedWarning(
            "forward derivatives (jvp, jacfwd) are recorded, but for small temporaries that a card takes for them"
        ),
        stacklevel=2,
    )


@contextlib.contextmanager
def scripts_left() -> Iterator[None]:
    """Leave functions and modules that are scripted or traced as they are: what PYTORCH_JIT=0 does.

    TorchScript takes a function of PyTorch for its own operation only where it is the one that PyTorch has. PyTorch's
    own scripts, which few forward derivatives need, are left too.
    """
    was_enabled = bool(torch_script._enabled)
    load = forward_ad._maybe_load_decompositions
    torch_script.disable()
    forward_ad._maybe_load_decompositions = _load_nothing
    try:
        yield
    finally:
        forward_ad._maybe_load_decompositions = load
        if was_enabled:
            torch_script.enable()
