"""A stand-in for a GPU: answers each trial from a simulation of its step."""

import torch

from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.memory.cudnn.envelope import Envelope, with_most_cublas
from bench.memory.measuring.cuda import Measurement
from bench.memory.measuring.isolated import IsolatedError
from bench.units import MiB

CONTEXT_BYTES = 500 * MiB


class StandIn:
    """Runs nothing: replays each step under `more_bytes` more than the cap, until it is lost after `last` trials."""

    def __init__(self, more_bytes=0, last=None):
        self.more_bytes, self.last, self.trials = more_bytes, last, []
        self._traces = {}

    def measure(self, trial):
        self.trials.append(trial)
        if self.last is not None and len(self.trials) > self.last:
            raise IsolatedError("AcceleratorError: CUDA error: device lost")
        card = card_of_capacity(f"{trial.limit_bytes + CONTEXT_BYTES + self.more_bytes}B", CONTEXT_BYTES)
        workload = repr(trial.make_step.__self__)
        if workload not in self._traces:
            self._traces[workload] = record(trial.make_step, trial.steps)
        probe = SimulatedEngine(self._traces[workload], with_most_cublas(card), workspaces=Envelope(card)).probe(
            trial.batch
        )
        return Measurement(
            fits=probe.fits,
            peak_allocated_bytes=probe.peak_allocated_bytes,
            peak_reserved_bytes=probe.peak_reserved_bytes,
            retries=probe.retries,
            ooms=not probe.fits,
            limit_bytes=trial.limit_bytes,
            context_bytes=None,
            step_seconds=None,
            device="stand-in",
            torch=torch.__version__,
            cudnn=None,
        )
