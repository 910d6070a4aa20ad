"""Verdicts as tables and sentences: what became of each cell, and why its memory changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import pandas as pd

from bench.regression.growth import Growth
from bench.regression.measured import Name
from bench.regression.verdicts import Change, Outcome, Verdict
from bench.units import format_bytes

GROWTHS = 5  # rows of the second table for each cell


def table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One line per cell, as text; of a cell that is worse or better, with the number that says most."""
    return pd.DataFrame([_line(verdict) for verdict in verdicts])


def _line(verdict: Verdict) -> dict[str, str]:
    cell = {
        "task": verdict.task,
        "architecture": verdict.architecture,
        "stage": verdict.stage,
        "verdict": word(verdict),
    }
    change = headline(verdict)
    if change is None:
        return cell | {"what": reason(verdict), "before": "", "now": "", "others": ""}
    return cell | {
        "what": what(change),
        "before": _number(change, change.before),
        "now": _number(change, change.after),
        "others": _others(verdict),
    }


def headline(verdict: Verdict) -> Change | None:
    """The number that says most of a cell that is worse or better; None of other cells, and of failures."""
    alike = [change for change in verdict.decisive if change.outcome is verdict.outcome]
    return min(alike, key=lambda change: get_args(Name).index(change.name), default=None)


def _others(verdict: Verdict) -> str:
    tally = Counter(change.outcome.value for change in verdict.decisive)
    tally[verdict.outcome.value] -= 1  # the headline
    return ", ".join(f"{number} {outcome}" for outcome, number in tally.items() if number)


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
    order = list(Outcome)
    ranked = sorted(verdicts, key=lambda verdict: (order.index(verdict.outcome), verdict.unanswered))
    counts = ", ".join(f"{number} {name}" for name, number in Counter(map(word, ranked)).items())
    return f"{len(verdicts)} {'cell' if len(verdicts) == 1 else 'cells'}: {counts}."


def word(verdict: Verdict) -> str:
    """The outcome; "same in part" where the rest could not be compared."""
    in_part = verdict.outcome is Outcome.SAME and verdict.unanswered
    return verdict.outcome.value + (" in part" if in_part else "")


def sentence(verdict: Verdict) -> str:
    """One cell in one sentence, with the cause of a change of its memory."""
    said = f"{verdict.architecture} on {verdict.task}, {verdict.stage}: {word(verdict)}"
    change, others = headline(verdict), _others(verdict)
    if change:
        said += f", {what(change)} {_number(change, change.before)}, now {_number(change, change.after)}"
        said += f" ({change.reason})" if change.reason else ""
        said += f" (others: {others})" if others else ""
    if verdict.reason:
        said += f", {reason(verdict)}"
    growth = cause(verdict)
    if verdict.why and growth:
        where = f" at {growth.places[0]}" if growth.places else ""
        said += f"; {growth.category} of {growth.what}{where}: {_signed(growth)} at batch {verdict.why.batch}"
    return said


def reason(verdict: Verdict) -> str:
    """Why the cell, or which of its numbers, could not be compared; or how it fails."""
    in_parts = verdict.compared and verdict.unanswered
    return ("not compared: " if in_parts else "") + (verdict.reason or "")


def cause(verdict: Verdict) -> Growth | None:
    """What grew most in a cell that is worse, or shrank most in one that is better; None if that is not known."""
    return verdict.why.largest(grew=verdict.outcome is Outcome.WORSE) if verdict.why else None


def what(change: Change) -> str:
    """The number's name: "largest batch (8GB, high)"."""
    return change.name.replace("_", " ") + (f" ({change.of})" if change.of else "")


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """As plain data; what is infinite, for which JSON has no number, as the text "Infinity"."""
    why = verdict.why
    growths = {"growths": [growth._asdict() for growth in why.growths]} if why else {}
    changes = [
        {name: "Infinity" if value == math.inf else value for name, value in asdict(change).items()}
        for change in verdict.changes
    ]
    return asdict(verdict) | {"changes": changes, "why": asdict(why) | growths if why else None}


def _number(change: Change, number: float | None) -> str:
    if number is None:
        return ""
    if "bytes" in change.name:
        return f"{number:,.0f}"
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"


def _signed(growth: Growth) -> str:
    return f"{'+' if growth.change_bytes > 0 else '-'}{format_bytes(abs(growth.change_bytes))}"
