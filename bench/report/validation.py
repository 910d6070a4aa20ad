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
    return (
        f"Largest batch predicted and measured on {device}, errors of the predicted peaks at the measured edge: "
        f"{equal} of {len(rows)} equal{largest}."
    )


def _percent(error: float | None) -> str:
    return "" if error is None else f"{error:+.2%}"
