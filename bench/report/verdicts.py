"""Verdicts as tables and sentences: what became of each cell, and why its memory changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from bench.regression.growth import Growth
from bench.regression.verdicts import Change, Outcome, Verdict
from bench.units import format_bytes

GROWTHS = 5  # rows of the second table for each cell


def table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One line per cell, as text; of a cell that is worse or better, one per number that is."""
    return pd.DataFrame([line for verdict in verdicts for line in _lines(verdict)])


def _lines(verdict: Verdict) -> list[dict[str, str]]:
    cell = {"task": verdict.task, "architecture": verdict.architecture, "stage": verdict.stage}
    if not verdict.decisive:
        return [cell | {"verdict": verdict.outcome.value, "what": verdict.reason or "", "before": "", "now": ""}]
    return [
        cell
        | {
            "verdict": change.outcome.value,
            "what": what(change),
            "before": _number(change, change.before),
            "now": _number(change, change.after),
        }
        for change in verdict.decisive
    ]


def why_table(verdicts: Sequence[Verdict]) -> pd.DataFrame | None:
    """What grew most in the memory of each cell that changed; None if that is not known of any."""
    rows = [
        {
            "task": verdict.task,
            "architecture": verdict.architecture,
            "category": growth.category,
            "module, operation": growth.what,
            "lines now": ", ".join(growth.places),
            "before": format_bytes(growth.before_bytes),
            "now": format_bytes(growth.after_bytes),
            "change": _signed(growth),
        }
        for verdict in verdicts
        if verdict.why
        for growth in verdict.why.growths[:GROWTHS]
    ]
    return pd.DataFrame(rows) if rows else None


def why_caption(verdicts: Sequence[Verdict]) -> str:
    """At which batches these compositions are, and what their peaks are."""
    peaks = [
        f"{verdict.architecture} on {verdict.task}, batch {verdict.why.batch}: "
        + " -> ".join(map(format_bytes, verdict.why.reserved_bytes))
        for verdict in verdicts
        if verdict.why
    ]
    return f"What the peak is made of, before and now, where memory is no limit. Reserved: {'; '.join(peaks)}."


def caption(verdicts: Sequence[Verdict]) -> str:
    """The tally: "12 cells: 1 worse, 11 same."."""
    tally = Counter(verdict.outcome for verdict in verdicts)
    counts = ", ".join(f"{tally[outcome]} {outcome.value}" for outcome in Outcome if tally[outcome])
    return f"{len(verdicts)} {'cell' if len(verdicts) == 1 else 'cells'}: {counts}."


def sentence(verdict: Verdict) -> str:
    """One cell in one sentence, with the cause of a change of its memory."""
    said = f"{verdict.architecture} on {verdict.task}, {verdict.stage}: {verdict.outcome.value}"
    first = next((change for change in verdict.changes if change.outcome is verdict.outcome), None)
    if first and verdict.decisive:
        others = len(verdict.decisive) - 1
        said += f", {what(first)} {_number(first, first.before)}, now {_number(first, first.after)}"
        said += f" (and {others} more)" if others else ""
    elif verdict.reason:
        said += f", {verdict.reason}"
    growth = cause(verdict)
    if verdict.why and growth:
        where = f" at {growth.places[0]}" if growth.places else ""
        said += f"; {growth.category} of {growth.what}{where}: {_signed(growth)} at batch {verdict.why.batch}"
    return said


def cause(verdict: Verdict) -> Growth | None:
    """What grew most in a cell that is worse, or shrank most in one that is better; None if that is not known."""
    return verdict.why.largest(grew=verdict.outcome is Outcome.WORSE) if verdict.why else None


def what(change: Change) -> str:
    """The number's name: "largest batch (8GB, high)"."""
    return change.name.replace("_", " ") + (f" ({change.of})" if change.of else "")


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """As plain data."""
    why = verdict.why
    growths = {"growths": [growth._asdict() for growth in why.growths]} if why else {}
    return asdict(verdict) | {"why": asdict(why) | growths if why else None}


def _number(change: Change, number: float | None) -> str:
    if number is None:
        return ""
    if "bytes" in change.name:
        return f"{number:,.0f}"
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"


def _signed(growth: Growth) -> str:
    return f"{'+' if growth.change_bytes > 0 else '-'}{format_bytes(abs(growth.change_bytes))}"
