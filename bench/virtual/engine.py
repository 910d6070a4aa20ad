"""The virtual engine: does a batch fit? Answered by running the step on a card that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.memory.gpus import Card
from bench.memory.measuring.cuda import CudaEngine, Device, Measurement
from bench.memory.recording.recorder import STEPS, MakeStep
from bench.memory.recording.values import Read
from bench.virtual.device import VirtualDevice, VirtualMeasurement


class VirtualEngine(CudaEngine):
    """One training step on one virtual card: CudaEngine's protocol and probes.

    `reads_at` tells what the step brings to the host at a batch, as a recording knows it; without it, the card reads
    zeros and selects nothing.

    Raises:
        NoVirtualCardError: there can be no such virtual card on this system.
    """

    name = "virtual"

    def __init__(
        self,
        make_step: MakeStep,
        card: Card,
        *,
        first_guess: int = 1,
        steps: int = STEPS,
        alloc_conf: str = "",
        allow_tf32: bool = True,
        deterministic: bool = False,
        device: Device | None = None,
        reads_at: Callable[[int], tuple[Read, ...] | None] = lambda batch: None,
    ) -> None:
        self._reads_at = reads_at
        super().__init__(
            make_step,
            card,
            first_guess=first_guess,
            steps=steps,
            alloc_conf=alloc_conf,
            allow_tf32=allow_tf32,
            deterministic=deterministic,
            device=device or VirtualDevice(card),
        )

    def watch(self, batch: int) -> VirtualMeasurement:
        """Run the step at `batch` once more, with every allocation and free.

        Raises:
            ProbeFailedError: it neither fitted nor ran out of memory.
        """
        seen = self.measure(batch, with_events=True)
        assert isinstance(seen, VirtualMeasurement)
        return seen

    def measure(self, batch: int, **options: Any) -> Measurement:
        """Carry out one trial at `batch`, told what the step brings to the host there.

        Raises:
            ProbeFailedError: it neither fitted nor ran out of memory.
        """
        return super().measure(batch, reads=self._reads_at(batch), **options)
