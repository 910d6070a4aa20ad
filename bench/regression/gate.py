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
    """The level of each verdict.

    Where no number at all was compared, nothing can be accepted: whatever is not worse is an error.
    """
    compared = any(verdict.compared for verdict in verdicts)

    def level(verdict: Verdict) -> Level:
        if verdict.outcome is Outcome.WORSE:
            return Level.FAILURE
        if not compared:
            return Level.ERROR
        if verdict.outcome is Outcome.BETTER and not allow_improvement:
            return Level.FAILURE
        if verdict.unanswered:
            return Level.WARNING if allow_incomparable else Level.ERROR
        return Level.OK

    return [level(verdict) for verdict in verdicts]
