"""Autocast where it is wanted: in networks, and neither in operators nor in solvers, whose sums need every digit.

Outside of torch.autocast nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast, on the device of x."""
    kind = device_type(x.device)
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def as_now(x: Tensor) -> Callable[[], AbstractContextManager[object]]:
    """Makes contexts with autocast as it is now on the device of x: for later, and for a backward pass."""
    kind = device_type(x.device)
    if not torch.is_autocast_enabled(kind):
        return nullcontext
    return partial(torch.autocast, kind, dtype=torch.get_autocast_dtype(kind))


def network_type(x: Tensor) -> torch.dtype:
    """The type in which convolutions of x are now computed."""
    kind = device_type(x.device)
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def device_type(device: torch.device) -> str:
    """What torch.autocast calls a device; tensors without data stand for those of a GPU."""
    return "cuda" if device.type == "meta" else device.type
