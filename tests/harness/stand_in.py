"""Stand-ins for a GPU and for the virtual card: they answer each trial from a simulation of its step."""

import itertools

import torch

from bench.memory import CARDS, SimulatedEngine, card_of_capacity, record
from bench.memory.allocator.caching import FREE
from bench.memory.cudnn.envelope import Envelope, with_most_cublas
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.measuring.cuda import Measurement
from bench.memory.measuring.isolated import IsolatedError
from bench.units import MiB
from bench.virtual import VirtualMeasurement

CONTEXT_BYTES = 500 * MiB


class StandIn:
    """Runs nothing: replays each step under `more_bytes` more than the cap, until it is lost after `last` trials."""

    def __init__(self, more_bytes=0, last=None):
        self.more_bytes, self.last, self.trials = more_bytes, last, []
        self._traces = {}

    def measure(self, trial):
        probe, _ = self._simulated(trial)
        return Measurement(**_seen(probe, trial))

    def _simulated(self, trial):
        """The probe of a trial and the engine that answers it."""
        self.trials.append(trial)
        if self.last is not None and len(self.trials) > self.last:
            raise IsolatedError("AcceleratorError: CUDA error: device lost")
        card = card_of_capacity(f"{trial.limit_bytes + CONTEXT_BYTES + self.more_bytes}B", CONTEXT_BYTES)
        workload = repr(getattr(trial.make_step, "__self__", trial.make_step))
        if workload not in self._traces:
            self._traces[workload] = record(trial.make_step, trial.steps)
        engine = SimulatedEngine(self._traces[workload], with_most_cublas(card), workspaces=self.source(card))
        return engine.probe(trial.batch), engine

    def source(self, card):
        """What convolutions take."""
        return Envelope(card)


class VirtualStandIn(StandIn):
    """A virtual card with the kernels of an RTX 3080.

    Its steps begin with `more` temporaries of 512 bytes, and with a block of `kept_bytes` that stays.
    """

    def __init__(self, more=0, kept_bytes=0, **options):
        super().__init__(**options)
        self.more, self.kept_bytes = more, kept_bytes

    def source(self, card):
        return workspaces(CARDS["RTX 3080"])

    def measure(self, trial):
        probe, engine = self._simulated(trial)
        events, failures = [], ()
        if trial.with_events:
            for key in range(self.more):
                events += [(key, 512), (key, FREE)]
            keys, number = itertools.count(self.more), {}  # a key may be allocated again
            if self.kept_bytes:
                events.append((next(keys), self.kept_bytes))
            for key, size_bytes in engine.events(trial.batch):
                if size_bytes is FREE:
                    events.append((number[key], FREE))
                elif size_bytes:
                    number[key] = next(keys)
                    events.append((number[key], size_bytes))
            failures = () if probe.fits else ((len(events), 2**34),)
        return VirtualMeasurement(
            **_seen(probe, trial) | {"cudnn": 92000},
            values_read=1,
            selections=0,
            lower_bounds=("cufftXtMakePlanMany",),
            events=tuple(events),
            failures=failures,
        )


def _seen(probe, trial):
    return {
        "fits": probe.fits,
        "peak_allocated_bytes": probe.peak_allocated_bytes,
        "peak_reserved_bytes": probe.peak_reserved_bytes,
        "retries": probe.retries,
        "ooms": int(not probe.fits),
        "limit_bytes": trial.limit_bytes,
        "context_bytes": None,
        "step_seconds": None,
        "device": "stand-in",
        "torch": torch.__version__,
        "cudnn": None,
    }
