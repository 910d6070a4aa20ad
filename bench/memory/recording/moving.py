"""Models that are moved to a card keep their parameters, as the same objects.

On a GPU `model.to(device)` changes the data of each parameter: an optimiser made before goes on with them, and a weight
that two layers share stays one. Parameters without data cannot take over the data of others, so that PyTorch makes new
ones (torch/nn/modules/module.py, `_apply`). Here the new one becomes the old one; where something else holds on to
that, as a view does, both stay, and it is said.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from bench.memory.recording.not_recorded import NotRecordedWarning


@contextlib.contextmanager
def parameters_kept() -> Iterator[None]:
    """Within this context parameters are the same objects before and after a module is moved or converted."""
    convert = nn.Module._apply
    kept: list[str] = []

    def _apply(module: nn.Module, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        before = dict(module._parameters)
        convert(module, fn, recurse)
        for name, parameter in before.items():
            converted = module._parameters[name]
            if converted is parameter:  # or both None, as the bias of a layer without
                continue
            assert parameter is not None and converted is not None
            if isinstance(parameter, UninitializedParameter):  # of a lazy layer, which has no shape yet
                where = {"device": converted.device, "dtype": converted.dtype}
                converted = UninitializedParameter(parameter.requires_grad, **where)  # type: ignore[arg-type, assignment]
            try:
                torch.utils.swap_tensors(parameter, converted)
            except RuntimeError:  # something else holds on to the old one, as a view does
                kept.append(name)
                continue
            module._parameters[name] = parameter
        return module

    with patch.object(nn.Module, "_apply", _apply):
        yield
    if kept:
        warnings.warn(
            NotRecordedWarning(
                f"a model is moved while something else, as a view, holds its parameters ({kept[0]!r} first): on a "
                "card they change in place, but here new ones are made, which an optimiser made before does not know; "
                "move the model before"
            ),
            stacklevel=2,
        )
