"""What the paper has no table of: memory with checkpoints, and quality at equal cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bench.records import Record
from bench.report.claims.differences import LESS_TO_COUNT, three_digits
from bench.report.claims.quantities import BYTES, step_seconds, timings_of_all, trainings, validations
from bench.report.methods import CLASSICAL, by_task, in_order, label, newest
from bench.strategies.naming import PLAIN, split

AGAIN = ("plain", "checkpoint", "recomputed")
"""Strategies of the table of memory: as it is, and what is made again in backward; gradients are exact."""


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
                        "MiB per image": three_digits(BYTES.of(record)),
                        **{f"images, {card}": str(batch or "-") for card, batch in largest.items()},
                    }
                )
    return rows


def at_equal_cost(records: Iterable[Record]) -> list[dict[str, str]]:
    """Validation PSNR at equal steps, the last, and at equal seconds: those of the fastest training of each task."""
    rows = []
    records = in_order(records)
    timed = newest(records, "timing")
    trained = [record for record in newest(records, "accuracy") if record.architecture not in CLASSICAL]
    for task, of_task in by_task(trained).items():
        ended = {
            label(record, of_task): [
                (validations(training), step_seconds(record, training, timings_of_all(of_task, timed)))
                for training in trainings(record)
                if validations(training)
            ]
            for record in of_task
        }
        budget = min((_seconds(*one) for each in ended.values() for one in each), default=0.0) * LESS_TO_COUNT
        for method, of_method in ended.items():
            if not of_method:
                continue
            within = [
                max((step, psnr) for step, psnr in [(0, np.nan), *points] if step * seconds <= budget)[1]
                for points, seconds in of_method
            ]
            rows.append(
                {
                    "task": task,
                    "method": method,
                    "seconds": f"{np.mean([_seconds(*one) for one in of_method]):.0f}",
                    "at equal steps, dB": f"{np.mean([points[-1][1] for points, _ in of_method]):.2f}",
                    "at equal seconds, dB": f"{np.mean(within):.2f}" if np.isfinite(within).all() else "none yet",
                }
            )
    return rows


def _seconds(points: list[tuple[int, float]], step_seconds: float) -> float:
    """Until the last validation."""
    return points[-1][0] * step_seconds
