"""The channels of a pixel side by side, as tensor cores read them: weights as soon as they are built, and images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.fitting.changes.change import Change
from bench.fitting.observed import Observed

_IMAGES = 4  # dimensions


@contextlib.contextmanager
def _channels_last() -> Iterator[None]:
    """Convert the networks that are built within this context, at its end, and from then on what they are given."""
    built: list[nn.Module] = []
    begin = nn.Module.__init__

    def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        begin(module, *args, **kwargs)
        built.append(module)

    with patch.object(nn.Module, "__init__", init):
        yield
    parts = {id(child) for module in built for child in module.children()}
    for network in built:
        if id(network) not in parts:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.register_forward_pre_hook(_given, with_kwargs=True)


def _given(network: nn.Module, args: Any, kwargs: Any) -> Any:
    return tuple(map(_converted, args)), {name: _converted(value) for name, value in kwargs.items()}


def _converted(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == _IMAGES and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _refusal(observed: Observed) -> str:
    return "" if observed.convolves_images else "the step has no two-dimensional convolution"


CHANNELS_LAST = Change(
    "channels-last", "images and kernels with their channels last", _channels_last, _refusal, _channels_last
)
