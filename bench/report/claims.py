"""What holds of the paper's claims: each with the measured answer, in differences of pairs and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.records import Record, Training
from bench.report.methods import CLASSICAL, by_task, in_order, label, loss, newest
from bench.strategies.naming import PLAIN, split
from bench.units import MiB

Answer = Literal["holds", "not resolved", "reversed", "not measured"]
Floats = npt.NDArray[np.floating]

CONFIDENCE = 0.95
LESS_TO_COUNT = 1.05
"""Seconds, bytes and steps that differ by a smaller factor are not told apart."""

CHECKPOINTED = "LU-DnCNN + checkpoint"
"""What the paper calls not easy: unrolling that recomputes its stages in backward."""

AGAIN = ("plain", "checkpoint", "recomputed")
"""Strategies of the table of memory: as it is, and what is made again in backward; gradients are exact."""


class Difference(NamedTuple):
    """The mean of paired differences, and half the width of its interval."""

    mean: float
    half_width: float

    @property
    def answer(self) -> Answer:
        """Whether the first of the pair is the larger one."""
        if self.mean - self.half_width > 0:
            return "holds"
        return "reversed" if self.mean + self.half_width < 0 else "not resolved"

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.half_width:.2f}"


def paired(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """First less second, image by image, each image's numbers being means over seeds; with Student's interval.

    Args:
        first: numbers of each seed's training, image by image: shape [seeds, images].
        second: the same images', of the other method; it may have other seeds.
    """
    differences = np.mean(first, axis=0) - np.mean(second, axis=0)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return Difference(float(differences.mean()), float("inf"))
    width = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return Difference(float(differences.mean()), float(width))


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
            ("LUSER-SW", "total variation"),
            ("LUSER-DW", "total variation"),
        )
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
        Claim(f"{first} trains with less memory than {second}.", list(_less(measured, first, second, *_BYTES)))
        for first, second in memories
    ]
    for luser in ("LUSER-SW", "LUSER-DW"):
        made += [
            Claim(f"{luser} trains with less memory than LU-DnCNN.", list(_less(measured, luser, "LU-DnCNN", *_BYTES))),
            Claim(f"DEQ4IP trains with less memory than {luser}.", list(_less(measured, "DEQ4IP", luser, *_BYTES))),
            Claim(f"{luser} needs fewer steps than LU-DnCNN to its best.", list(_sooner(trained, luser, "steps"))),
            Claim(f"{luser} needs less time than LU-DnCNN to its best.", list(_sooner(trained, luser, "s"))),
            Claim(f"{luser} trains faster than DEQ4IP, step by step.", list(_less(timed, luser, "DEQ4IP", *_STEP))),
            Claim(f"{luser} evaluates faster than DEQ4IP.", list(_less(timed, luser, "DEQ4IP", *_EVALUATION))),
            Claim(f"LU-DnCNN evaluates faster than {luser}.", list(_less(timed, "LU-DnCNN", luser, *_EVALUATION))),
            Claim(f"{luser} applies A and Aᵀ less often than DEQ4IP.", list(_less(timed, luser, "DEQ4IP", *_CALLS))),
        ]
    made += [
        Claim(f"{name} trains stably.", list(_stable(trained, name)))
        for name in ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW")
    ]
    return made


def _pairs(records: Sequence[Record], first: str, second: str) -> Iterator[tuple[str, Record, Record]]:
    """The records of two methods on each task that has both; of a method with several losses that of the final one."""
    for task, of_task in by_task(records).items():
        found = {record.architecture: record for record in reversed(of_task) if loss(record) != "auxiliary"}
        if first in found and second in found:
            yield task, found[first], found[second]


def _told(number: float) -> str:
    """Three digits, and all those before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _ended(record: Record) -> list[Training]:
    return [training for training in record.accuracy.trainings if training.status == "ok"] if record.accuracy else []


def _quality(records: Sequence[Record], first: str, second: str) -> Iterator[Finding]:
    for task, one, other in _pairs(records, first, second):
        yield from _compared(task, one, other)


def _losses(records: Sequence[Record], name: str) -> Iterator[Finding]:
    for task, of_task in by_task(records).items():
        found = {loss(record): record for record in of_task if record.architecture == name}
        if len(found) == 2:
            yield from _compared(task, found["auxiliary"], found["final"])


def _compared(task: str, one: Record, other: Record) -> Iterator[Finding]:
    first, second = ([training.psnr_db for training in _ended(record)] for record in (one, other))
    if first and second:
        difference = paired(first, second)
        seeds = "" if len(first) == 1 else f", {len(first)} seeds"
        yield Finding(task, difference.answer, f"{difference} dB{seeds}")


_BYTES: tuple[Callable[[Record], float], str] = (
    lambda record: record.memory.peak_bytes_per_image["high"] / MiB if record.memory else np.nan,
    "MiB per image",
)
_STEP: tuple[Callable[[Record], float], str] = (
    lambda record: median(record.timing.training_step_seconds) / record.timing.batch if record.timing else np.nan,
    "s per image",
)
_EVALUATION: tuple[Callable[[Record], float], str] = (
    lambda record: median(record.timing.evaluation_seconds) / record.timing.batch if record.timing else np.nan,
    "s per image",
)
_CALLS: tuple[Callable[[Record], float], str] = (
    lambda record: (
        record.timing.evaluation_calls.forward + record.timing.evaluation_calls.adjoint if record.timing else np.nan
    ),
    "calls per evaluation",
)


def _less(
    records: Sequence[Record], first: str, second: str, quantity: Callable[[Record], float], unit: str
) -> Iterator[Finding]:
    for task, one, other in _pairs(records, first, second):
        a, b = quantity(one), quantity(other)
        yield Finding(task, _smaller(a, b), f"{_told(a)} and {_told(b)} {unit}")


def _smaller(first: float, second: float) -> Answer:
    """Whether the first number is smaller, where they can be told apart."""
    if max(first, second) <= LESS_TO_COUNT * min(first, second):
        return "not resolved"
    return "holds" if first < second else "reversed"


def _sooner(records: Sequence[Record], luser: str, unit: Literal["steps", "s"]) -> Iterator[Finding]:
    """The step, or second, at which a network's validation first reaches the best that LU-DnCNN's ever has."""
    for task, one, lu in _pairs(records, luser, "LU-DnCNN"):
        costs: list[tuple[float, float]] = []
        for training, reference in zip(_ended(one), _ended(lu), strict=False):
            best = max((psnr for _, psnr in _validated(reference)), default=np.nan)
            costs.append((_reached(training, best, unit), _reached(reference, best, unit)))
        if costs:
            first, second = np.mean(costs, axis=0)
            if np.isinf(first):
                yield Finding(task, "reversed", f"never, LU-DnCNN after {_told(second)} {unit}")
            else:
                yield Finding(task, _smaller(first, second), f"{_told(first)} and {_told(second)} {unit}")


def _validated(training: Training) -> list[tuple[int, float]]:
    return [(p.step, p.validation_psnr_db) for p in training.curve if p.validation_psnr_db is not None]


def _reached(training: Training, psnr_db: float, unit: Literal["steps", "s"]) -> float:
    """When the validation came to a PSNR; infinite if it never did. Seconds are spread evenly over the steps."""
    steps = next((step for step, value in _validated(training) if value >= psnr_db), np.inf)
    last = training.curve[-1].step if training.curve else 1
    return float(steps) if unit == "steps" else float(steps) * training.training_seconds / last


def _stable(records: Sequence[Record], name: str) -> Iterator[Finding]:
    """No training diverged, and every seed's fixed points were found on the test images."""
    for task, of_task in by_task(records).items():
        of_method = [record for record in of_task if record.architecture == name and record.accuracy]
        trainings = [training for record in of_method if record.accuracy for training in record.accuracy.trainings]
        if not trainings:
            continue
        diverged = sum(training.status == "diverged" for training in trainings)
        solves = [training.test_solves for training in trainings if training.test_solves]
        share = sum(s.converged for s in solves) / sum(s.count for s in solves) if solves else 1.0
        found = f", {share:.0%} of fixed points found" if solves else ""
        solved = any(point.solver_residual is not None for training in trainings for point in training.curve)
        answer: Answer = "holds" if not diverged and share >= 0.99 else "reversed"
        if solved and not solves and not diverged:
            answer, found = "not measured", ", fixed points not judged"
        yield Finding(task, answer, f"{diverged} of {len(trainings)} diverged{found}")


def at_equal_cost(records: Iterable[Record]) -> list[dict[str, str]]:
    """Validation PSNR at equal steps, the last, and at equal seconds: those of the fastest training of each task."""
    rows = []
    trained = [record for record in newest(in_order(records), "accuracy") if record.architecture not in CLASSICAL]
    for task, of_task in by_task(trained).items():
        budgets = [training.training_seconds for record in of_task for training in _ended(record) if training.curve]
        for record in of_task:
            ended = [training for training in _ended(record) if _validated(training)]
            if not ended:
                continue
            last, within = [], []
            for training in ended:
                points = _validated(training)
                per_step = training.training_seconds / training.curve[-1].step
                affordable = [psnr for step, psnr in points if step * per_step <= min(budgets) * LESS_TO_COUNT]
                last.append(points[-1][1])
                within.append(affordable[-1] if affordable else np.nan)
            rows.append(
                {
                    "task": task,
                    "method": label(record, of_task),
                    "seconds": f"{np.mean([training.training_seconds for training in ended]):.0f}",
                    "at equal steps, dB": f"{np.mean(last):.2f}",
                    "at equal seconds, dB": f"{np.mean(within):.2f}" if np.isfinite(within).all() else "none yet",
                }
            )
    return rows


def with_checkpoints(records: Iterable[Record]) -> list[dict[str, str]]:
    """Memory of each architecture as it is and with its stages made again in backward, where there are such records."""
    measured = [record for record in newest(in_order(records), "memory") if split(record.architecture)[1] in AGAIN]
    rows = []
    for task, of_task in by_task(measured).items():
        if not any(split(record.architecture)[1] != PLAIN for record in of_task):
            continue
        for record in of_task:
            if record.memory:
                largest = {card.card: card.edge("high")[1].largest_batch for card in record.memory.cards}
                rows.append(
                    {
                        "task": task,
                        "method": record.architecture,
                        "MiB per image": _told(_BYTES[0](record)),
                        **{f"images, {card}": str(batch or "-") for card, batch in largest.items()},
                    }
                )
    return rows


def markdown(records: Sequence[Record]) -> str:
    """The page: what holds in one table, then each claim task by task, then the tables at equal cost."""
    found = claims(records)
    lines = [
        "# What holds of the paper",
        "",
        "*Loop Unrolled Shallow Equilibrium Regularizer (LUSER)* by Guan, Jin, Romberg and Davenport (2022), claim by "
        "claim, as measured here. Made by `bench claims`.",
        "",
        f"Of PSNR a claim holds, or is reversed, where the {CONFIDENCE:.0%} interval (Student's) of the mean paired "
        "difference over the test images, each a mean over seeds, lies on one side of 0; else it is not resolved. Of "
        f"seconds, bytes, steps and calls where they differ by more than {LESS_TO_COUNT - 1:.0%}. Its best is the best "
        "validation PSNR of LU-DnCNN's training. Test images of one subject are not independent: the tables' captions "
        "say how many subjects there are.",
        "",
        "| claim | answer |",
        "|:--|:--|",
        *(f"| {claim.text} | {claim.answer} |" for claim in found),
        "",
        "## Task by task",
        "",
        "| claim | task | answer | numbers |",
        "|:--|:--|:--|:--|",
        *(
            f"| {claim.text if not number else ''} | {each.task} | {each.answer} | {each.numbers} |"
            for claim in found
            for number, each in enumerate(claim.findings)
        ),
    ]
    lines += _table(
        "Memory with checkpoints",
        "As the networks are, and with what their stages keep made again in backward, which gives the same gradient: "
        "bytes of each image, and the largest batch on each card (-: none).",
        with_checkpoints(records),
    )
    lines += _table(
        "At equal steps and at equal seconds",
        "Validation PSNR after all steps, and after as many seconds as the fastest training of the task took.",
        at_equal_cost(records),
    )
    return "\n".join(lines) + "\n"


def _table(title: str, text: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A section with a table, each row with the same columns; nothing of no rows."""
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [
        "",
        f"## {title}",
        "",
        text,
        "",
        f"| {' | '.join(names)} |",
        f"|{':--|' * len(names)}",
        *(f"| {' | '.join(row.get(name, '') for name in names)} |" for row in rows),
    ]
