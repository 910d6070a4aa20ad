"""A history held against its step: peaks with their errors, and what one side alone allocates."""

from __future__ import annotations

import pandas as pd

from bench.histories.matching import RECORDING, Match
from bench.units import format_bytes

MOST_ROWS = 20


def peaks(match: Match) -> pd.DataFrame:
    """One line for each peak, as text: bytes of both sides, and the other side's error."""
    rows = [
        ("allocated", match.real.allocated_bytes, match.recorded.allocated_bytes),
        ("reserved", match.real.reserved_bytes, match.recorded.reserved_bytes),
    ]
    return pd.DataFrame(
        [
            {
                "peak": name,
                "history": f"{real:,} B",
                match.other: f"{recorded:,} B",
                "difference": f"{recorded - real:+,} B",
                "error": f"{(recorded - real) / real:+.2%}",
            }
            for name, real, recorded in rows
        ]
    )


def caption(match: Match, batch: int, torch_version: str, card: str | None) -> str:
    """How much of the history the other side has, and what that is."""
    steps = "one step" if match.steps == 1 else f"{match.steps} steps"
    which = f"{steps}, the first included" if match.from_the_first else f"{steps} after the first"
    done, where = ("Recorded", "in the recording") if match.other == RECORDING else ("Run", "the virtual card's too")
    kernels = f"the kernels of {card}" if card else "kernels that need nothing: --gpu names the card"
    return (
        f"{match.matched:,} of {match.events:,} events of the history are {where}, in order "
        f"({match.share:.2%}); it has {match.recorded_events:,}. {done} at batch {batch} with torch {torch_version} "
        f"and {kernels}: {which}."
    )


def left(match: Match) -> pd.DataFrame:
    """What one side alone allocates, most bytes first; as text."""
    return pd.DataFrame(
        [
            {
                "only in the": each.where,
                "operation": each.op or "-",
                "line": each.place or "-",
                "bytes": f"{each.size_bytes:,}",
                "times": f"{each.times:,}",
                "together": format_bytes(each.size_bytes * each.times),
            }
            for each in match.left[:MOST_ROWS]
        ]
    )


def left_caption(match: Match) -> str:
    """How much of it is shown."""
    kinds = len(match.left)
    shown = f"the {MOST_ROWS} largest of {kinds} kinds" if kinds > MOST_ROWS else "all"
    return f"Allocations that have no like on the other side, in order: {shown}."
