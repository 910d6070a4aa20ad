"""Where timing and accuracy run: the chosen device, its name, its threads."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from bench.errors import UsageError


def chosen(name: str) -> torch.device:
    """The device called "cpu", "cuda" or "auto": a GPU where there is one.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device cuda needs a GPU, but PyTorch finds none: give cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def visible_gpus() -> list[str]:
    """The GPUs that PyTorch finds, as CUDA_VISIBLE_DEVICES names them: numbers, or what it already lists."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    count = torch.cuda.device_count()
    return listed.split(",")[:count] if listed else [str(index) for index in range(count)]


def describe(device: torch.device) -> str:
    """The device's name, as tables show it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
