"""What the environment of a process tells PyTorch's CUDA code about memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

ALLOC_CONF = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Where PyTorch looks for its allocator's options. The first one that is set counts, even if it is empty: so in the
header of CUDAAllocatorConfig and in libc10 of torch 2.11 to 2.14, although PyTorch's manual names the second first.
"""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"
"""Switches the caching allocator off, whatever its value (forceUncachedAllocator in CUDACachingAllocator.cpp)."""


class Variable(NamedTuple):
    """One that is set, and says something."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}={self.text}"


def alloc_conf(environment: Mapping[str, str] = os.environ) -> Variable | None:
    """The variable whose options PyTorch's allocator obeys; None if there are none."""
    name = next((name for name in ALLOC_CONF if name in environment), None)
    return Variable(name, environment[name]) if name and environment[name].strip() else None


def cublas_workspace(environment: Mapping[str, str] = os.environ) -> Variable | None:
    """The variable that says how large cuBLAS's workspace is; None if PyTorch chooses."""
    text = environment.get(CUBLAS_WORKSPACE)
    return Variable(CUBLAS_WORKSPACE, text) if text is not None else None


def told(environment: Mapping[str, str] = os.environ) -> list[Variable]:
    """Everything that the environment tells PyTorch about memory."""
    uncached = Variable(UNCACHED, environment[UNCACHED]) if UNCACHED in environment else None
    return [each for each in (alloc_conf(environment), cublas_workspace(environment), uncached) if each]


def check_cached(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse an environment without the allocator that all predictions are of.

    Raises:
        ValueError: it is switched off.
    """
    if UNCACHED in environment:
        raise ValueError(f"{UNCACHED} in the environment switches PyTorch's caching allocator off: unset it")
