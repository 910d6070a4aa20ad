"""What readers of records take from the settings that a record carries; it may carry more."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from bench.records.values import Count, Stage


class _Setting(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class _Solver(_Setting):
    max_evaluations: Count


class _Model(_Setting):
    stages: Count
    solver: _Solver
    gradient: str


class _Task(_Setting):
    operator: str


class _Losses(_Setting):
    loss: str


class _Memory(_Setting):
    steps: Count
    alloc_conf: str


class _MemoryStage(_Memory):
    engine: str


class _AccuracyStage(_Setting):
    steps: Count


class _Settings(_Setting):
    """What tables, pictures and comparisons take from a record's settings, which may have more."""

    model: _Model
    task: _Task
    training: _Losses


class _OfMemory(_Settings):
    memory: _MemoryStage


class _OfProfile(_Settings):
    memory: _Memory


class _OfAccuracy(_Settings):
    accuracy: _AccuracyStage


SETTINGS: dict[Stage, type[_Settings]] = {
    "memory": _OfMemory,
    "profile": _OfProfile,
    "timing": _Settings,
    "accuracy": _OfAccuracy,
}
