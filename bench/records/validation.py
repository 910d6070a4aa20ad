"""What a validation found: predictions beside what a GPU or the virtual card measured."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bench.records.origin import Provenance
from bench.records.values import Count, Elapsed, Part, Positive


class Peak(Part):
    """Peaks of one batch in bytes, and what it cost to fit."""

    batch: Positive
    fits: bool
    allocated_bytes: Count
    reserved_bytes: Count
    retries: Count
    fallbacks: Count


class Row(Part):
    """One cell under one cap: predicted and measured edge, and the peaks of every batch that was run.

    `events` says what the recording and the virtual card have in common at the measured edge, and what each has alone
    (bench.virtual.comparison.Difference.summary); it is empty where a GPU answered.
    """

    architecture: str
    task: str
    cap: str
    key: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    usable_bytes: Count
    workspaces: str
    predicted_batch: Count
    measured_batch: Count | None = None
    predicted: list[Peak] = Field(default=[])
    measured: list[Peak] = Field(default=[])
    measurements: list[dict[str, Any]] = Field(default=[])
    events: dict[str, Count] = Field(default={})
    seconds: Elapsed

    @property
    def agrees(self) -> bool:
        """Whether the predicted largest batch is the measured one."""
        return self.measured_batch == self.predicted_batch

    def error(self, what: Literal["allocated_bytes", "reserved_bytes"]) -> float | None:
        """Signed relative error of the predicted peak at the measured edge (or at batch 1 where none fits)."""
        at = max(self.measured_batch or 0, 1)
        predicted = next((peak for peak in self.predicted if peak.batch == at), None)
        measured = next((peak for peak in self.measured if peak.batch == at), None)
        if not predicted or not measured or not measured.fits or not predicted.fits or not getattr(measured, what):
            return None
        return float(getattr(predicted, what) / getattr(measured, what)) - 1


class Validation(Part):
    """All rows of one GPU."""

    format: Literal[1] = 1
    device: str
    rows: list[Row] = Field(default=[])
    provenance: Provenance
