"""Each claim of the paper, with what was found on each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records import Record
from bench.report.claims.differences import Answer, paired, smaller, three_digits
from bench.report.claims.quantities import (
    BYTES,
    CALLS,
    EVALUATION,
    STEP,
    Quantity,
    step_seconds,
    steps_to,
    timings_of_all,
    trainings,
    validations,
)
from bench.report.methods import by_task, in_order, loss, newest

TV = "total variation"
CHECKPOINTED = "LU-DnCNN + checkpoint"
"""What the paper calls not easy: unrolling that recomputes its stages in backward."""


@dataclass(frozen=True)
class Finding:
    """The answer to a claim on one task.

    Attributes:
        task: its name.
        answer: in a word.
        numbers: that it follows from.
    """

    task: str
    answer: Answer
    numbers: str


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (or of ours), and what was found."""

    text: str
    findings: list[Finding]

    @property
    def answer(self) -> str:
        """In a word where all tasks agree, else how many tasks say what."""
        answers = [finding.answer for finding in self.findings]
        kinds = list(dict.fromkeys(answers))
        if len(kinds) <= 1:
            return kinds[0] if kinds else "not measured"
        return ", ".join(f"{kind} on {answers.count(kind)}" for kind in kinds)


def claims(records: Iterable[Record]) -> list[Claim]:
    """All claims that records can speak to; those that they have no numbers for are "not measured"."""
    records = in_order(records)
    trained, timed, measured = (newest(records, stage) for stage in ("accuracy", "timing", "memory"))
    made = [
        Claim(f"{first} reconstructs better than {second}.", list(_quality(trained, first, second)))
        for first, second in (
            ("LUSER-DW", "LU-DnCNN"),
            ("LUSER-DW", "DEQ4IP"),
            ("LUSER-DW", "LUSER-SW"),
            ("LUSER-SW", "LU-DnCNN"),
            ("LUSER-SW", TV),
            ("LUSER-DW", TV),
        )
    ]
    made += [
        Claim(f"With the auxiliary loss, {name} reconstructs better than {TV}.", findings)
        for name in ("LUSER-SW", "LUSER-DW")
        if (findings := list(_quality(trained, name, TV, "auxiliary")))
    ]
    made += [
        Claim(f"The auxiliary loss helps {name}.", list(_losses(trained, name)))
        for name in ("LU-DnCNN", "LUSER-SW", "LUSER-DW")
    ]
    memories = [
        (first, CHECKPOINTED)
        for first in ("LUSER-SW", "LUSER-SW + recomputed", "DEQ4IP")
        if list(_pairs(measured, first, CHECKPOINTED))
    ]
    made += [
        Claim(f"{first} trains with less memory than {second}.", list(_less(measured, first, second, BYTES)))
        for first, second in memories
    ]
    for luser in ("LUSER-SW", "LUSER-DW"):
        made += [
            Claim(f"{luser} trains with less memory than LU-DnCNN.", list(_less(measured, luser, "LU-DnCNN", BYTES))),
            Claim(f"DEQ4IP trains with less memory than {luser}.", list(_less(measured, "DEQ4IP", luser, BYTES))),
            Claim(
                f"{luser} needs fewer steps than LU-DnCNN to its best.", list(_sooner(trained, timed, luser, "steps"))
            ),
            Claim(f"{luser} needs less time than LU-DnCNN to its best.", list(_sooner(trained, timed, luser, "s"))),
            Claim(f"{luser} trains faster than DEQ4IP, step by step.", list(_less(timed, luser, "DEQ4IP", STEP))),
            Claim(f"{luser} evaluates faster than DEQ4IP.", list(_less(timed, luser, "DEQ4IP", EVALUATION))),
            Claim(f"LU-DnCNN evaluates faster than {luser}.", list(_less(timed, "LU-DnCNN", luser, EVALUATION))),
            Claim(f"{luser} applies A and Aᵀ less often than DEQ4IP.", list(_less(timed, luser, "DEQ4IP", CALLS))),
        ]
    made += [
        Claim(f"{name} trains stably.", list(_stable(trained, name)))
        for name in ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW")
    ]
    return made


def _pairs(
    records: Sequence[Record], first: str, second: str, trained_with: str = "final"
) -> Iterator[tuple[str, Record, Record]]:
    """The records of two methods on each task that has both; of what is trained, those with that loss."""
    for task, of_task in by_task(records).items():
        found = {record.architecture: record for record in reversed(of_task) if loss(record) in ("", trained_with)}
        if first in found and second in found:
            yield task, found[first], found[second]


def _quality(records: Sequence[Record], first: str, second: str, trained_with: str = "final") -> Iterator[Finding]:
    for task, one, other in _pairs(records, first, second, trained_with):
        yield from _compared(task, one, other)


def _losses(records: Sequence[Record], name: str) -> Iterator[Finding]:
    for task, of_task in by_task(records).items():
        found = {loss(record): record for record in of_task if record.architecture == name}
        if len(found) == 2:
            yield from _compared(task, found["auxiliary"], found["final"])


def _compared(task: str, one: Record, other: Record) -> Iterator[Finding]:
    first, second = ([training.psnr_db for training in trainings(record)] for record in (one, other))
    if first and second:
        difference = paired(first, second)
        seeds = "" if len(first) == 1 else f", {len(first)} seeds"
        yield Finding(task, difference.answer, f"{difference} dB{seeds}")


def _less(records: Sequence[Record], first: str, second: str, quantity: Quantity) -> Iterator[Finding]:
    for task, one, other in _pairs(records, first, second):
        a, b = quantity.of(one), quantity.of(other)
        yield Finding(task, smaller(a, b), f"{three_digits(a)} and {three_digits(b)} {quantity.unit}")


def _sooner(records: Sequence[Record], timed: Sequence[Record], luser: str, unit: str) -> Iterator[Finding]:
    """The step, or second ("s"), at which a network's validation first reaches the best that LU-DnCNN's ever has."""
    for task, one, lu in _pairs(records, luser, "LU-DnCNN"):
        comparable = timings_of_all((one, lu), timed)
        costs: list[tuple[float, float]] = []
        for training, reference in zip(trainings(one), trainings(lu), strict=False):
            best = max((psnr for _, psnr in validations(reference)), default=np.nan)
            steps = steps_to(training, best), steps_to(reference, best)
            if unit == "s":
                first_step = step_seconds(one, training, comparable)
                costs.append((steps[0] * first_step, steps[1] * step_seconds(lu, reference, comparable)))
            else:
                costs.append(steps)
        if costs:
            first, second = np.mean(costs, axis=0)
            if np.isinf(first):
                yield Finding(task, "reversed", f"never, LU-DnCNN after {three_digits(second)} {unit}")
            else:
                yield Finding(task, smaller(first, second), f"{three_digits(first)} and {three_digits(second)} {unit}")


def _stable(records: Sequence[Record], name: str) -> Iterator[Finding]:
    """No training diverged, and every seed's fixed points were found on the test images."""
    for task, of_task in by_task(records).items():
        of_method = [record for record in of_task if record.architecture == name and record.accuracy]
        tried = [training for record in of_method if record.accuracy for training in record.accuracy.trainings]
        if not tried:
            continue
        diverged = sum(training.status == "diverged" for training in tried)
        solves = [training.test_solves for training in tried if training.test_solves]
        share = sum(s.converged for s in solves) / sum(s.count for s in solves) if solves else 1.0
        found = f", {share:.0%} of fixed points found" if solves else ""
        solved = any(point.solver_residual is not None for training in tried for point in training.curve)
        answer: Answer = "holds" if not diverged and share >= 0.99 else "reversed"
        if solved and not solves and not diverged:
            answer, found = "not measured", ", fixed points not judged"
        yield Finding(task, answer, f"{diverged} of {len(tried)} diverged{found}")
