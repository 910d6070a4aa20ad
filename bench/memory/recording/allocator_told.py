"""What a program tells PyTorch's allocator: how much it may take, and its options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

from bench.memory.allocator.alloc_conf import AllocatorConfig
from bench.memory.trace import CAPPING, CONFIGURING

Hear = Callable[[str], None]

_hearing: ContextVar[Hear | None] = ContextVar("hearing", default=None)


@contextlib.contextmanager
def allocator_heard(hear: Hear) -> Iterator[None]:
    """Within this context, `hear` is given what a program that is taken for one on a GPU tells the allocator.

    The operation and what it is given: "torch.cuda.set_per_process_memory_fraction 0.5".
    """
    token = _hearing.set(hear)
    try:
        yield
    finally:
        _hearing.reset(token)


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """In place of PyTorch's function, with its errors."""
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    _tell(f"{CAPPING} {fraction!r}")


def set_allocator_settings(settings: str) -> None:
    """In place of PyTorch's function.

    Raises:
        ValueError: PyTorch has no such options, or they are not simulated.
    """
    AllocatorConfig.parse(settings)
    _tell(f"{CONFIGURING} {settings}")


def _tell(told: str) -> None:
    hear = _hearing.get()
    if hear:
        hear(told)


_CAPPING = (torch.cuda, torch.cuda.memory)
_CONFIGURING = (
    (torch.cuda.memory, "_set_allocator_settings"),
    (torch._C, "_accelerator_setAllocatorSettings"),
    (torch._C, "_cuda_cudaCachingAllocator_set_allocator_settings"),
)
ANSWERS: list[tuple[Any, str, Callable[..., None]]] = [
    *((module, "set_per_process_memory_fraction", set_per_process_memory_fraction) for module in _CAPPING),
    *((module, name, set_allocator_settings) for module, name in _CONFIGURING if hasattr(module, name)),
]
"""Where PyTorch has these functions, and what stands in their place."""
