"""A training step becomes events: what is allocated and freed, in order, on tensors without data."""

from bench.memory.recording.recorder import NotRecordableError, record, record_events

__all__ = ["NotRecordableError", "record", "record_events"]
