"""Bytes: how much GPU memory a training step takes, computed without a GPU.

    trace = record(make_step)                 # one recording on tensors without data, for every batch size
    engine = SimulatedEngine(trace, card)     # PyTorch's caching allocator on that card
    boundary = largest_batch(engine)          # B fits, B + 1 does not

Nothing here knows of models, operators or records: `make_step(batch, device)` returns any callable step.
"""

from bench.memory.gpus import CARDS, Card, card_of_capacity
from bench.memory.recording.recorder import MakeStep, record
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.search import Boundary, Engine, Probe, largest_batch
from bench.memory.simulated import SimulatedEngine
from bench.memory.trace import Trace

__all__ = [
    "CARDS",
    "Boundary",
    "Card",
    "Engine",
    "MakeStep",
    "NotRecordableError",
    "Probe",
    "SimulatedEngine",
    "Trace",
    "card_of_capacity",
    "largest_batch",
    "record",
]
