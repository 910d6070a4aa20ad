"""The cuda engine: does a batch fit? Answered by running the step on a GPU whose allocator is capped.

Every probe is a fresh process that runs whole optimiser steps. The cap is the card's usable memory, so that a large GPU
stands in for a smaller one, and cuBLAS's workspace is the card's too; compute capability, kernels and all other
workspaces stay the GPU's own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from bench.memory.environment import UNCACHED
from bench.memory.gpus import Card
from bench.memory.measuring.isolated import IsolatedError, run_isolated
from bench.memory.recording.recorder import STEPS, MakeStep
from bench.memory.recording.values import Read
from bench.memory.search import Probe
from bench.units import format_bytes

TIMEOUT_SECONDS = 300.0


class NoGpuError(Exception):
    """There is no GPU to measure on."""


class ProbeFailedError(Exception):
    """A probe ended in something else than an answer: a crash, a hang, an error that is not out of memory."""


@dataclass(frozen=True)
class Measurement:
    """What one probe saw on the GPU.

    `context_bytes` is what the process held outside PyTorch's allocator at its end, as NVML tells; None where NVML
    does not answer. `ooms` counts allocations that failed, those that cuDNN passed over in silence included.
    """

    fits: bool
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    retries: int
    ooms: int
    limit_bytes: int
    context_bytes: int | None
    step_seconds: float | None
    device: str
    torch: str
    cudnn: int | None


@dataclass(frozen=True)
class Trial:
    """What one probe has to do; plain data, so that it can travel to another process.

    `with_events`, on the virtual card: every allocation and free is to be told. `reads`, there: what the step brings to
    the host, in order, setup and steps, as far as a recording knows it; None if there is none.
    """

    make_step: MakeStep
    batch: int
    steps: int
    limit_bytes: int
    device_index: int
    alloc_conf: str
    allow_tf32: bool
    deterministic: bool
    cublas_workspace_config: str
    with_events: bool = False
    reads: tuple[Read, ...] | None = None


class Device(Protocol):
    """Something that carries out a trial: the GPU, or in tests a stand-in."""

    def measure(self, trial: Trial) -> Measurement:
        """Carry out one trial.

        Raises:
            IsolatedError: it ended without an answer.
        """
        ...


class Gpu:
    """The real device: a fresh process for each trial."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds

    def measure(self, trial: Trial) -> Measurement:
        """Carry out one trial in a process of its own."""
        return run_isolated(measure_here, trial, timeout_seconds=self._timeout_seconds)


class CudaEngine:
    """One training step on one GPU under one card's memory.

    `allow_tf32` and `deterministic` are torch.backends.cudnn's own, with PyTorch's defaults.
    """

    name = "cuda"

    def __init__(
        self,
        make_step: MakeStep,
        card: Card,
        *,
        first_guess: int = 1,
        steps: int = STEPS,
        device_index: int = 0,
        alloc_conf: str = "",
        allow_tf32: bool = True,
        deterministic: bool = False,
        device: Device | None = None,
    ) -> None:
        self.card = card
        self.measurements: dict[int, Measurement] = {}
        self.probes: dict[int, Probe] = {}
        self._first_guess = first_guess
        self._trial = partial(
            Trial,
            make_step=make_step,
            steps=steps,
            limit_bytes=card.usable_bytes,
            device_index=device_index,
            alloc_conf=alloc_conf,
            allow_tf32=allow_tf32,
            deterministic=deterministic,
            cublas_workspace_config=card.cublas_workspace_config,
        )
        self._device = device or Gpu()

    def probe(self, batch: int) -> Probe:
        """Run the step at `batch` under the cap.

        Raises:
            ProbeFailedError: it neither fitted nor ran out of memory.
        """
        seen = self.measure(batch)
        self.measurements[batch] = seen
        self.probes[batch] = Probe(
            batch=batch,
            fits=seen.fits,
            peak_allocated_bytes=seen.peak_allocated_bytes,
            peak_reserved_bytes=seen.peak_reserved_bytes,
            retries=seen.retries,
            fallbacks=seen.ooms - (not seen.fits),
        )
        return self.probes[batch]

    def measure(self, batch: int, **options: Any) -> Measurement:
        """Carry out one trial at `batch`, with more of a Trial's fields as `options`.

        Raises:
            ProbeFailedError: it neither fitted nor ran out of memory.
        """
        try:
            return self._device.measure(self._trial(batch=batch, **options))
        except IsolatedError as error:
            raise ProbeFailedError(f"the probe of batch {batch} under {self.card.name} failed: {error}") from error

    def guess(self) -> int:
        """Where the search starts: a prediction, if there is one."""
        return self._first_guess


def require_gpu(limit_bytes: int = 0, device_index: int = 0) -> str:
    """The name of the GPU.

    Raises:
        NoGpuError: PyTorch has no CUDA, there is no such device or driver, or it has less memory than `limit_bytes`.
    """
    if not torch.backends.cuda.is_built():
        raise NoGpuError("the cuda engine needs a GPU, but this PyTorch is built without CUDA: use --engine simulated")
    try:
        properties = torch.cuda.get_device_properties(device_index)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise NoGpuError(f"the cuda engine needs a GPU, but none answers ({reason}): use --engine simulated") from error
    if limit_bytes > properties.total_memory:
        raise NoGpuError(
            f"{properties.name} has {format_bytes(properties.total_memory)}, less than the {format_bytes(limit_bytes)} "
            "that the cap leaves to train in: give a smaller cap"
        )
    return str(properties.name)


def cap_fraction(limit_bytes: int, total_bytes: int) -> float:
    """The fraction whose cap, int(fraction * total) as PyTorch computes it, is exactly `limit_bytes`.

    `limit / total * total` can round to one byte less and cost a segment; half a byte more is beyond all rounding.
    """
    fraction = limit_bytes / total_bytes
    return fraction if int(fraction * total_bytes) == limit_bytes else (limit_bytes + 0.5) / total_bytes


def measure_here(trial: Trial) -> Measurement:
    """Carry out a trial on the GPU in this process, which must not have used it before."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = trial.cublas_workspace_config
    os.environ.pop(UNCACHED, None)
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = os.environ["PYTORCH_ALLOC_CONF"] = trial.alloc_conf
    torch.backends.cudnn.allow_tf32 = trial.allow_tf32
    torch.backends.cudnn.deterministic = trial.deterministic
    used_before = _used_bytes(trial.device_index)
    device = torch.device("cuda", trial.device_index)
    properties = torch.cuda.get_device_properties(device)
    torch.cuda.set_per_process_memory_fraction(cap_fraction(trial.limit_bytes, properties.total_memory), device)
    seconds = None
    try:
        step = trial.make_step(trial.batch, device)
        for _ in range(trial.steps):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            step()
            end.record()
            torch.cuda.synchronize(device)
            seconds = start.elapsed_time(end) / 1000
        fits = True
    except torch.OutOfMemoryError:
        fits = False
    statistics = torch.cuda.memory_stats(device)
    used_after = _used_bytes(trial.device_index)
    context_bytes = None
    if used_before is not None and used_after is not None:
        context_bytes = used_after - used_before - torch.cuda.memory_reserved(device)
    return Measurement(
        fits=fits,
        peak_allocated_bytes=statistics["allocated_bytes.all.peak"],
        peak_reserved_bytes=statistics["reserved_bytes.all.peak"],
        retries=statistics["num_alloc_retries"],
        ooms=statistics["num_ooms"],
        limit_bytes=trial.limit_bytes,
        context_bytes=context_bytes,
        step_seconds=seconds if fits else None,
        device=properties.name,
        torch=torch.__version__,
        cudnn=torch.backends.cudnn.version(),
    )


def _used_bytes(device_index: int) -> int | None:
    """Memory in use on the whole device, as NVML tells without touching CUDA; None where it does not answer."""
    try:
        return int(torch.cuda.device_memory_used(device_index))
    except (ModuleNotFoundError, RuntimeError):
        return None
