"""Records: the versioned JSON result of one stage of one cell, part by part; and the folder that keeps them."""

from bench.records.accuracy import Accuracy, DataSets, Point, Solves, Training
from bench.records.memory import CardResult, Edge, Memory, OnVirtualCard, Parameters
from bench.records.origin import Provenance
from bench.records.profile import CATEGORIES, Composition, Profile, Span, StepTimeline
from bench.records.record import Record, united
from bench.records.timing import Calls, Timing
from bench.records.validation import Peak, Row, Validation
from bench.records.values import (
    FULL_SIZE,
    Bound,
    Count,
    Elapsed,
    Measurements,
    Metric,
    PsnrDb,
    Range,
    Seconds,
    Stage,
    Window,
)

__all__ = [
    "CATEGORIES",
    "FULL_SIZE",
    "Accuracy",
    "Bound",
    "Calls",
    "CardResult",
    "Composition",
    "Count",
    "DataSets",
    "Edge",
    "Elapsed",
    "Measurements",
    "Memory",
    "Metric",
    "OnVirtualCard",
    "Parameters",
    "Peak",
    "Point",
    "Profile",
    "Provenance",
    "PsnrDb",
    "Range",
    "Record",
    "Row",
    "Seconds",
    "Solves",
    "Span",
    "Stage",
    "StepTimeline",
    "Timing",
    "Training",
    "Validation",
    "Window",
    "united",
]
