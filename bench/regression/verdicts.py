"""Verdicts: two sets of measured cells -> what became of each cell, by the limits of [check] in bench.toml."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from math import comb, inf, isfinite, isinf
from statistics import fmean, median
from typing import Any

from bench.config import CheckSection, Limit
from bench.records import Stage
from bench.regression.growth import Why, why
from bench.regression.measured import REPEATED, Measured, Name, Quantity


class Outcome(str, Enum):
    """What became of a cell, or of one of its numbers."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    NEW = "new"
    GONE = "gone"
    NOT_COMPARABLE = "not comparable"


MORE_IS_BETTER: tuple[Name, ...] = ("largest_batch", "psnr_db")
OF_LARGEST_BATCH: tuple[Name, ...] = ("peak_allocated_bytes", "peak_reserved_bytes")


@dataclass(frozen=True)
class Change:
    """One number before and after, and the reason where one is needed.

    Of repeats it is the median, of a PSNR the mean over images that are not reconstructed exactly, or infinite where
    all are; None: there is none.
    """

    name: Name
    of: str
    before: float | None
    after: float | None
    outcome: Outcome
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of one cell: worse if any of its numbers is, else better if any is.

    Attributes:
        reason: why it is not comparable, in whole or (where the outcome is another) in parts; or how it fails.
        changes: number by number, also those that are the same.
        why: what memory is made of before and after, where that is known and memory changed.
    """

    task: str
    architecture: str
    stage: Stage
    outcome: Outcome
    reason: str | None = None
    changes: tuple[Change, ...] = ()
    why: Why | None = field(default=None)

    @property
    def name(self) -> tuple[str, str, str]:
        """Task, architecture and stage."""
        return self.task, self.architecture, self.stage

    @property
    def compared(self) -> bool:
        """Whether a number of the cell could be compared."""
        return any(change.outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.SAME) for change in self.changes)

    @property
    def unanswered(self) -> bool:
        """Whether something that was there before could not be compared: the cell, or one of its numbers."""
        return self.outcome in (Outcome.GONE, Outcome.NOT_COMPARABLE) or bool(_unanswered(self.changes))

    @property
    def decisive(self) -> list[Change]:
        """The numbers that became worse or better."""
        return [change for change in self.changes if change.outcome in (Outcome.WORSE, Outcome.BETTER)]


def compare(before: Iterable[Measured], after: Iterable[Measured], check: CheckSection) -> list[Verdict]:
    """A verdict on every cell of either set, in the order of their names."""
    return [_verdict(old, new, check) for old, new in _pairs(before, after)]


def _pairs(before: Iterable[Measured], after: Iterable[Measured]) -> Iterator[tuple[Measured | None, Measured | None]]:
    """Cells of the same name: those under the same conditions first, then whatever is left of either side."""
    old, new = _by_name(before), _by_name(after)
    for name in sorted(old.keys() | new.keys()):
        mine, theirs = old[name], new[name]
        for conditions in sorted(mine.keys() & theirs.keys()):
            yield mine.pop(conditions), theirs.pop(conditions)
        left, right = ([side[conditions] for conditions in sorted(side)] for side in (mine, theirs))
        for place in range(max(len(left), len(right))):
            yield left[place] if place < len(left) else None, right[place] if place < len(right) else None


def _by_name(cells: Iterable[Measured]) -> dict[tuple[str, str, str], dict[str, Measured]]:
    named: dict[tuple[str, str, str], dict[str, Measured]] = defaultdict(dict)
    for cell in cells:
        named[cell.name][json.dumps(cell.conditions, sort_keys=True)] = cell
    return named


def _verdict(before: Measured | None, after: Measured | None, check: CheckSection) -> Verdict:
    cell = before or after
    assert cell is not None
    outcome, reason, changes = _compared(before, after, check)
    return Verdict(cell.task, cell.architecture, cell.stage, outcome, reason, changes, _why(outcome, before, after))


def _compared(
    before: Measured | None, after: Measured | None, check: CheckSection
) -> tuple[Outcome, str | None, tuple[Change, ...]]:
    if before is None:
        return Outcome.NEW, None, ()
    if after is None:
        return Outcome.GONE, None, ()
    other = _difference(before.conditions, after.conditions)
    if other:
        equal = _equal_with_other_torch(before, after, check)
        return (Outcome.SAME, other, equal) if equal else (Outcome.NOT_COMPARABLE, other, ())
    if before.failure or after.failure:
        return *_of_failures(before.failure, after.failure), ()
    changes = tuple(_changes(before.quantities, after.quantities, check))
    outcomes = {change.outcome for change in changes}
    reasons = _first([change.reason or "" for change in _unanswered(changes)], "; ")
    for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.SAME):
        if outcome in outcomes:
            return outcome, reasons or None, changes
    return Outcome.NOT_COMPARABLE, reasons or "no number in common", changes


def _equal_with_other_torch(before: Measured, after: Measured, check: CheckSection) -> tuple[Change, ...]:
    """The numbers of memory that two releases of torch have equal; none if they differ in anything else.

    What a release changes is no change of the code: where a number differs, nothing is said of it.
    """
    name = "torch"
    one, other = ({key: value for key, value in cell.conditions.items() if key != name} for cell in (before, after))
    if before.stage != "memory" or one != other or before.failure or after.failure:
        return ()
    changes = tuple(_changes(before.quantities, after.quantities, check))
    return changes if all(change.outcome is Outcome.SAME for change in changes) else ()


def _unanswered(changes: Sequence[Change]) -> list[Change]:
    """Numbers that were there before and could not be compared; peaks only where the largest batch is the same."""
    batches = [change for change in changes if change.name == "largest_batch" and change.outcome is Outcome.SAME]
    same = {change.of for change in batches if change.before == change.after}
    lost = [change for change in changes if change.outcome in (Outcome.GONE, Outcome.NOT_COMPARABLE)]
    return [change for change in lost if change.name not in OF_LARGEST_BATCH or change.of in same]


def _of_failures(before: str | None, after: str | None) -> tuple[Outcome, str]:
    if before and after:
        return Outcome.NOT_COMPARABLE, f"fails before and after: {after}"
    return (Outcome.WORSE, f"fails now: {after}") if after else (Outcome.BETTER, f"failed before: {before}")


def _changes(before: Sequence[Quantity], after: Sequence[Quantity], check: CheckSection) -> Iterator[Change]:
    old = {(quantity.name, quantity.of): quantity for quantity in before}
    new = {(quantity.name, quantity.of): quantity for quantity in after}
    for name, of in dict.fromkeys((*old, *new)):
        yield judge(old.get((name, of)), new.get((name, of)), check)


def judge(before: Quantity | None, after: Quantity | None, check: CheckSection) -> Change:
    """What became of one number. A change within the limit is none; of repeats it must pass a rank test as well.

    Raises:
        ValueError: neither is given.
    """
    quantity = before or after
    if quantity is None:
        raise ValueError("nothing to judge: got neither a number before nor one after")
    old, new = _number(before), _number(after)
    outcome, reason = _judged(before, after, old, new, check)
    return Change(quantity.name, quantity.of, old, new, outcome, reason)


def _judged(
    before: Quantity | None, after: Quantity | None, old: float | None, new: float | None, check: CheckSection
) -> tuple[Outcome, str | None]:
    if before is None or old is None:
        return Outcome.NEW, None
    if after is None or new is None:
        return Outcome.GONE, f"{before.called} is gone"
    other = _difference(before.at, after.at)
    if other:
        return Outcome.NOT_COMPARABLE, f"{before.called} at other {other}"
    if _infinite(before) != _infinite(after):
        return Outcome.WORSE, f"infinite in {_infinite(after)} of the images, before in {_infinite(before)}"
    limit: Limit = getattr(check.limits, before.name)
    if new == old or abs(new - old) <= limit.allows(old, new):
        return Outcome.SAME, None
    if before.name in REPEATED:
        assert isinstance(before.value, tuple) and isinstance(after.value, tuple)
        p, least = rank_test(before.value, after.value)
        if least > check.significance:
            repeats = f"{len(before.value)} and {len(after.value)} repeats"
            return Outcome.NOT_COMPARABLE, f"{before.name}: {repeats} are too few for p <= {check.significance:g}"
        if not p <= check.significance:
            return Outcome.SAME, None
    is_better = (new > old) == (before.name in MORE_IS_BETTER)
    return Outcome.BETTER if is_better else Outcome.WORSE, None


def _number(quantity: Quantity | None) -> float | None:
    if quantity is None:
        return None
    if isinstance(quantity.value, int):
        return quantity.value
    if quantity.name in REPEATED:
        return median(quantity.value)
    return fmean(filter(isfinite, quantity.value)) if _infinite(quantity) < 1 else inf


def _infinite(quantity: Quantity) -> Fraction:
    """The share of images that are reconstructed exactly, so that their PSNR is infinite."""
    values = quantity.value if isinstance(quantity.value, tuple) else ()
    return Fraction(sum(map(isinf, values)), len(values) or 1)


def rank_test(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """The two-sided p-value of Mann and Whitney's test, and the least that so many repeats can have."""
    from scipy.stats import mannwhitneyu

    least = 2 / comb(len(before) + len(after), len(before))
    return float(mannwhitneyu(before, after).pvalue), least


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The leaves in which two trees differ, in words; "" if they differ in none."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return _first([f"{name}: {_told(old, name)}, now {_told(new, name)}" for name in names], ", ")


def _first(told: Sequence[str], separator: str) -> str:
    more = [f"and {len(told) - 3} more"] if len(told) > 3 else []
    return separator.join([*told[:3], *more])


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _told(leaves: Mapping[str, Any], name: str) -> str:
    return json.dumps(leaves[name]) if name in leaves else "not there"


def _why(outcome: Outcome, before: Measured | None, after: Measured | None) -> Why | None:
    """What memory is made of, where it changed and both sides know it of the same batch."""
    if outcome not in (Outcome.WORSE, Outcome.BETTER) or before is None or after is None:
        return None
    old, new = before.composition, after.composition
    return why(old, new) if old and new and old.batch == new.batch else None
