"""bench.toml: what it may say, and how it is read."""

from bench.config.loading import FILE_NAME, default_path, load
from bench.config.sections import (
    AccuracySection,
    CheckSection,
    Classical,
    Config,
    Limit,
    LimitsSection,
    MemorySection,
    Task,
    TimingSection,
    TrainingSection,
)

__all__ = [
    "FILE_NAME",
    "AccuracySection",
    "CheckSection",
    "Classical",
    "Config",
    "Limit",
    "LimitsSection",
    "MemorySection",
    "Task",
    "TimingSection",
    "TrainingSection",
    "default_path",
    "load",
]
