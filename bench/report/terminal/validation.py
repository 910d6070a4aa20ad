"""The validation table: predicted and measured edges, and the errors of the peaks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.records import Row


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per cell and cap, as text; a disagreement is marked in its own column."""
    return pd.DataFrame(
        [
            {
                "task": row.task,
                "architecture": row.architecture,
                "cap": row.cap,
                "predicted": str(row.predicted_batch or "-"),
                "measured": "failed" if row.measured_batch is None else str(row.measured_batch or "-"),
                "reserved": _percent(row.error("reserved_bytes")),
                "allocated": _percent(row.error("allocated_bytes")),
                **_events(row, any(each.events for each in rows)),
                "verdict": row.reason or ("equal" if row.agrees else "DIFFERS"),
            }
            for row in rows
        ]
    )


def caption(rows: Sequence[Row], device: str) -> str:
    """The tally."""
    equal = sum(row.agrees for row in rows)
    errors = [abs(error) for row in rows if (error := row.error("reserved_bytes")) is not None]
    largest = f"; largest error of peak reserved {max(errors):.2%}" if errors else ""
    of_both, of_one = (sum(row.events.get(name, 0) for row in rows for name in names) for names in (_BOTH, _ONE))
    alike = (
        f" {of_both:,} events on both sides, {of_one:,} temporaries and allocations on one side only."
        if of_both
        else ""
    )
    return (
        f"Largest batch predicted and measured on {device}, errors of the predicted peaks at the measured edge: "
        f"{equal} of {len(rows)} equal{largest}.{alike}"
    )


_BOTH, _ONE = ("same",), ("temporaries", "on_card", "recorded")


def _events(row: Row, are_shown: bool) -> dict[str, str]:
    """Events of both, and what one alone has: temporaries of the card, other allocations of it, the recording's."""
    names = {
        "same": "events of both",
        "temporaries": "temporaries",
        "on_card": "card alone",
        "recorded": "recording alone",
    }
    return {shown: f"{row.events[name]:,}" if row.events else "" for name, shown in names.items() if are_shown}


def _percent(error: float | None) -> str:
    return "" if error is None else f"{error:+.2%}"
