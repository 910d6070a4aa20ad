"""What a run found, in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from bench.records import Bound, Record


def counted(records: Sequence[Record]) -> str:
    """How many results there are of each stage, and how many failed: "24 results (12 memory, 12 timing), 0 failed"."""
    stages = ", ".join(f"{number} {stage}" for stage, number in Counter(record.stage for record in records).items())
    failed = sum(record.status == "failed" for record in records)
    return f"{len(records)} results ({stages}), {failed} failed"


def found(records: Sequence[Record], cards: Sequence[str], workspace: Bound) -> str:
    """The largest batch on each card, or else the fastest step, or else the best PSNR, with the cell that has it."""
    return (
        _largest_batches(records, cards, workspace)
        or _fastest(records)
        or _best_psnr(records)
        or "neither batches, times nor PSNR were measured"
    )


def _largest_batches(records: Sequence[Record], cards: Sequence[str], workspace: Bound) -> str:
    parts = []
    for card in cards:
        results = [(result, record) for record in records if record.memory and (result := record.card(card))]
        batches = [(result.edge(workspace)[1].largest_batch, record) for result, record in results]
        if batches:
            batch, record = max(batches, key=lambda pair: pair[0])
            parts.append(f"{card} {batch:,} ({_name(record)})" if batch else f"{card} none")
    return f"largest batch: {', '.join(parts)}" if parts else ""


def _fastest(records: Sequence[Record]) -> str:
    speeds = [
        (record.timing.batch / median(record.timing.training_step_seconds), record)
        for record in records
        if record.timing
    ]
    if not speeds:
        return ""
    speed, record = max(speeds, key=lambda pair: pair[0])
    return f"fastest training: {speed:.2f} images/s ({_name(record)})"


def _best_psnr(records: Sequence[Record]) -> str:
    results = [
        (fmean(training.psnr_db), record)
        for record in records
        if record.accuracy
        for training in record.accuracy.trainings
        if training.status == "ok"
    ]
    if not results:
        return ""
    psnr_db, record = max(results, key=lambda pair: pair[0])
    return f"best PSNR: {psnr_db:.2f} dB ({_name(record)})"


def _name(record: Record) -> str:
    return f"{record.architecture} on {record.task}"
