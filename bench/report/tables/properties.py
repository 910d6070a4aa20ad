"""The rules by which numbers become the words of Table 4. They are applied to the numbers as the table shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from bench.units import format_bytes

RATIO_LIMITS = (1.5, 3.0)
"""Times the best method of the same task: up to the first the best word, up to the second the middle one."""

GRADIENT_SPREAD_LIMIT = 3.0
"""Upper over lower quartile of the gradient norms in the second half of a training."""

CONVERGED_LIMIT = 0.9
"""Of the solves in the second half of a training: with fewer that found their fixed point it is none of one's own."""

PSNR_LIMIT_DB = 0.25
"""A better reconstruction is better by more. With it the paper's numbers lead to its words for LU, DEQ4IP, LUSER-DW."""


def _bytes(mean: float) -> str:
    return format_bytes(round(mean))


@dataclass(frozen=True)
class Property:
    """A row of the table.

    Attributes:
        name: In the paper's table.
        rule: How its word follows; see `judge`.
        words: From best to worst.
        meaning: What is measured.
        write: Of those judged by their ratio, how the quantity is written.
    """

    name: str
    rule: Literal["ratio", "stability", "quality"]
    words: tuple[str, ...]
    meaning: str
    write: Callable[[float], str] = str


PROPERTIES = (
    Property("training_time", "ratio", ("Fast", "Moderate", "Slow"), "a training step per image", "{:.3g} s".format),
    Property("evaluation_time", "ratio", ("Fast", "Moderate", "Slow"), "an evaluation per image", "{:.3g} s".format),
    Property("training_stability", "stability", ("Stable", "Unstable"), "trainings and their gradient norms"),
    Property("network_size", "ratio", ("Small", "Moderate", "Large"), "parameters", "{:,.0f}".format),
    Property("expressiveness", "quality", ("High", "Moderate", "Low"), "PSNR at equal memory"),
    Property("training_memory_usage", "ratio", ("Small", "Moderate", "Large"), "peak bytes per image", _bytes),
)

RULES = (
    "Times, size and memory: the ratio to the best method of the same task (geometric mean over tasks), then the "
    f"quantity; up to {RATIO_LIMITS[0]:g}x Fast or Small, up to {RATIO_LIMITS[1]:g}x Moderate, beyond Slow or Large. "
    "Stability: Unstable where a training diverged, or the quartiles of the gradient norms in the second half of "
    f"training lie more than {GRADIENT_SPREAD_LIMIT:g}x apart, or fewer than {CONVERGED_LIMIT:.0%} of the solves there "
    "came within their tolerance; the solver's numbers are those of the first and second half. "
    "Expressiveness: PSNR less that of the best method of no more memory, and of the best of all (means over tasks); "
    f"Low where the first lacks more than {PSNR_LIMIT_DB:g} dB, High where the second does not, else Moderate."
)


class Verdict(NamedTuple):
    """A word, and the numbers that it follows from."""

    word: str
    numbers: str


def judge(judged: Property, values: pd.DataFrame) -> dict[str, Verdict]:
    """The verdict on each method.

    Args:
        judged: The property.
        values: Its quantities, one column each, by method and task.
    """
    return {"ratio": _by_ratio, "stability": _by_stability, "quality": _by_quality}[judged.rule](judged, values)


def _by_ratio(judged: Property, values: pd.DataFrame) -> dict[str, Verdict]:
    """A task that a single method was measured on compares nothing, and does not count."""
    (quantity,) = values.columns
    by_task = values[quantity].unstack("method")
    by_task = by_task.where(by_task > 0)  # of nothing there is no ratio
    by_task = by_task[by_task.count(axis=1) > 1].dropna(axis=1, how="all")
    ratios = by_task.div(by_task.min(axis=1), axis=0)
    verdicts = {}
    for method in by_task.columns:
        ratio = round(geometric_mean(ratios[method].dropna()), 2)
        word = judged.words[int(np.searchsorted(RATIO_LIMITS, ratio))]
        verdicts[method] = Verdict(word, f"{ratio:.2f}x, {judged.write(geometric_mean(by_task[method].dropna()))}")
    return verdicts


def _by_stability(judged: Property, values: pd.DataFrame) -> dict[str, Verdict]:
    verdicts = {}
    for method, of_method in values.groupby("method"):
        diverged, trainings = of_method["diverged"].sum(), of_method["trainings"].sum()
        spread = round(geometric_mean(of_method["gradient_norm_spread"].dropna()), 2)
        numbers = [f"{diverged:.0f} of {trainings:.0f} diverged"]
        if not np.isnan(spread):
            numbers.append(f"norms {spread:.2f}x")
        for name, unit, digits in (
            ("solver_evaluations", "evaluations", ".1f"),
            ("solver_residual", "residual", ".1e"),
        ):
            first, second = (of_method[f"{name}_{half}_half"].mean() for half in ("first", "second"))
            if not np.isnan(second):
                since = "" if np.isnan(first) else f"{first:{digits}} to "  # a training of one step has no first half
                numbers.append(f"{unit} {since}{second:{digits}}")
        converged = of_method["solves_converged_second_half"].mean()
        if not np.isnan(converged):
            numbers.append(f"{converged:.0%} of solves converged")
        stable = not diverged and not spread > GRADIENT_SPREAD_LIMIT and not converged < CONVERGED_LIMIT
        verdicts[str(method)] = Verdict(judged.words[0 if stable else 1], ", ".join(numbers))
    return verdicts


def _by_quality(judged: Property, values: pd.DataFrame) -> dict[str, Verdict]:
    behind = []
    for _, of_task in values.groupby("task"):
        if len(of_task) == 1:
            continue  # as of ratios: it compares nothing
        psnr_db, peak_bytes = of_task["psnr_db"], of_task["peak_bytes_per_image"]
        for method, own, needs in zip(of_task.index.get_level_values("method"), psnr_db, peak_bytes, strict=True):
            equal, best = psnr_db[peak_bytes <= needs].max(), psnr_db.max()
            behind.append({"method": method, "equal": _less(own, equal), "any": _less(own, best)})
    verdicts: dict[str, Verdict] = {}
    if not behind:
        return verdicts
    high, moderate, low = judged.words
    for method, (equal, best) in pd.DataFrame(behind).groupby("method").mean().round(2).add(0.0).iterrows():
        word = low if equal < -PSNR_LIMIT_DB else high if best >= -PSNR_LIMIT_DB else moderate
        verdicts[str(method)] = Verdict(word, f"{equal:+.2f} dB, {best:+.2f} dB")
    return verdicts


def _less(psnr_db: float, best_db: float) -> float:
    """The difference of two PSNR; none of two that are infinite."""
    return 0.0 if psnr_db == best_db else psnr_db - best_db


def geometric_mean(values: Sequence[float] | pd.Series[float]) -> float:
    """The geometric mean; unknown of nothing, 0 where a value is."""
    numbers = np.asarray(values, float)
    if not numbers.size:
        return np.nan
    return float(np.exp(np.mean(np.log(numbers)))) if numbers.all() else 0.0
