"""Bad inputs: drawn by hypothesis, tried one by one; of each kind of fault the smallest example is looked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from tools.storm.cases import Case, Outcome, tried
from tools.storm.drawn import Drawn
from tools.storm.totals import Fault, Totals
from tools.storm.values import Strategy

SHRINK_SECONDS = 20.0
"""To look for a smaller example of one kind of fault."""

SHARES = {"options": 0.45, "configs": 0.25, "records": 0.25, "environments": 0.05}
"""What inputs are bad in, and how many of them."""

Body = TypeVar("Body", bound=Callable[[Case], None])


def storm(what: str, count: int, seed: int, root: Path, template: Path) -> Totals:
    """Try `count` inputs of one kind, in sandboxes at `root` that are made of `template`."""
    strategy: Strategy = getattr(Drawn(template), what)
    totals = Totals()
    first: dict[str, int] = {}

    def each(case: Case) -> None:
        place = totals.number("inputs")
        outcome = tried(case, root, template)
        totals.count(f"inputs {case.verb or 'bench'}", outcome.how)
        for kind in outcome.faults:
            first.setdefault(kind, place)
            totals.found(_fault(kind, case, outcome))

    _go_over(strategy, count, seed, [Phase.generate], each)
    for kind, place in first.items():
        _shrink(strategy, count, seed, kind, place, partial(tried, root=root, template=template), totals)
    return totals


def _go_over(strategy: Strategy, count: int, seed: int, phases: list[Phase], body: Callable[[Case], None]) -> None:
    """Call `body` with cases: the same ones for the same seed."""
    options = settings(
        max_examples=count,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )

    def case_of(case: Case) -> None:
        body(case)

    hypothesis.seed(seed)(options(given(strategy)(case_of)))()


class _FoundError(Exception):
    """The kind of fault that is looked for."""


def _shrink(
    strategy: Strategy,
    count: int,
    seed: int,
    kind: str,
    place: int,
    judged: Callable[[Case], Outcome],
    totals: Totals,
) -> None:
    """Draw the same cases again, and from the one at `place` on look for smaller ones with a fault of this kind."""
    seen = 0
    until = time.monotonic() + SHRINK_SECONDS

    def each(case: Case) -> None:
        nonlocal seen
        seen += 1
        if seen <= place or time.monotonic() > until:
            return
        outcome = judged(case)
        if kind in outcome.faults:
            totals.found(_fault(kind, case, outcome))
            raise _FoundError

    with contextlib.suppress(_FoundError, hypothesis.errors.Flaky):  # which say no more than the totals do
        _go_over(strategy, count, seed, [Phase.generate, Phase.shrink], each)


def _fault(kind: str, case: Case, outcome: Outcome) -> Fault:
    said = ascii(outcome.stderr.strip()[-300:])[1:-1] if outcome.stderr.strip() else "nothing on stderr"
    return Fault(kind, f"{case}\n-> {outcome.how}: {said}")
