"""The gate: which verdicts end a command with an error."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from bench.regression.verdicts import Outcome, Verdict


class Level(Enum):
    """What a verdict is to the gate: nothing to object to, something to see, or one of two reasons to fail."""

    OK = "ok"
    WARNING = "warning"  # not compared, which is accepted
    ERROR = "error"  # not compared
    FAILURE = "failure"  # worse, or better where that is not accepted


def levels(verdicts: Sequence[Verdict], *, allow_improvement: bool, allow_incomparable: bool) -> list[Level]:
    """The level of each verdict. Where nothing at all was compared, `allow_incomparable` counts for nothing."""
    failing = [Outcome.WORSE] if allow_improvement else [Outcome.WORSE, Outcome.BETTER]
    accepted = allow_incomparable and any(verdict.compared for verdict in verdicts)
    unanswered = Level.WARNING if accepted else Level.ERROR
    return [
        Level.FAILURE if verdict.outcome in failing else unanswered if verdict.unanswered else Level.OK
        for verdict in verdicts
    ]
