"""A training step becomes events: what is allocated and freed, in order, on tensors without data."""

from bench.memory.recording.recorder import record, record_events
from bench.memory.recording.refusals import NotRecordableError

__all__ = ["NotRecordableError", "record", "record_events"]
