"""A step recorded at one batch for one card: what a plan asks of each way to run it."""

from __future__ import annotations

from bench.fitting.process import Process
from bench.memory import Card, MakeStep, SimulatedEngine
from bench.memory.prediction import prediction
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS, events_beside
from bench.memory.recording.values import Read, reads_noted
from bench.memory.trace import constant
from bench.streams import in_silence


class OneBatch:
    """The recording.

    Attributes:
        reads: What the step brings to the host, in order.

    Raises:
        FailsAtBatchError: the step does not run so.
        NotRecordableError: it cannot be recorded.
    """

    def __init__(self, make_step: MakeStep, batch: int, card: Card, steps: int = STEPS) -> None:
        with in_silence(), on_cuda(card), reads_noted() as reads:
            self._trace = constant(events_beside(make_step, batch, steps))
        self.reads: tuple[Read, ...] = tuple(reads)
        self._card = card

    def engine(self, process: Process) -> SimulatedEngine:
        """The recording replayed on the card, as far as a process may take it."""
        return prediction(self._trace, process.on(self._card), process.config)
