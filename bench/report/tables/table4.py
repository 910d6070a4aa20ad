"""Table 4: the properties of the architectures, in words that follow from measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Record, Training
from bench.report.methods import CLASSICAL, beside, in_order, label, newest
from bench.report.paper import paper_tables
from bench.report.tables.properties import PROPERTIES, RULES, Verdict, geometric_mean, judge

IN_PAPER = {"LU-DnCNN": "LU", "LUSER-SW": "LUSER", "LUSER-DW": "LUSER"}
"""The paper's columns; DEQ4IP has its own."""

PARTS = {"the paper's word": r" / [^/]*$", "the numbers that it follows from": r" \(.*\)$"}
"""What a cell says after its word, the last first."""

NOT_MEASURED = Verdict("not measured", "")


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per property, method, task and quantity, with its `value`, preset and device.

    Of a training, quantities are means over seeds; those of gradient norms and residuals are geometric means.
    """
    learned = [record for record in in_order(records) if record.architecture not in CLASSICAL]
    memory, timing, accuracy = (newest(learned, stage) for stage in ("memory", "timing", "accuracy"))
    if any(record.timing and record.timing.peak_bytes_per_image for record in timing):
        memory = []  # bytes and parameters are of the networks that are timed
    rows = []
    for record in (*memory, *timing, *accuracy):
        common = {"method": label(record, learned), "task": record.task, **_conditions(record)}
        for name, quantities in _quantities(record, timing).items():
            rows += [{"property": name, **common, "quantity": q, "value": value} for q, value in quantities.items()]
    return pd.DataFrame(rows)


def _conditions(record: Record) -> dict[str, Any]:
    part = record.timing or record.accuracy
    return {
        "architecture": record.architecture,
        "stage": record.stage,
        "preset": record.preset,
        "device": part and part.device,
        "torch": record.provenance.torch,
    }


def _quantities(record: Record, timed: Sequence[Record]) -> dict[str, dict[str, float]]:
    """What one record tells, by property; `timed` has what an accuracy is held against."""
    quantities: dict[str, dict[str, float]] = {}
    peak_bytes = _peak_bytes_per_image(record)
    if peak_bytes is not None and record.parameters:
        quantities["network_size"] = {"parameters": record.parameters.paper}
        quantities["training_memory_usage"] = {"peak_bytes_per_image": peak_bytes}
    if record.timing:
        batch = record.timing.batch
        quantities["training_time"] = {"seconds_per_image": median(record.timing.training_step_seconds) / batch}
        quantities["evaluation_time"] = {"seconds_per_image": median(record.timing.evaluation_seconds) / batch}
    if record.accuracy:
        quantities["training_stability"] = _stability(record.accuracy.trainings)
        psnr_db = [training.psnr_db for training in record.accuracy.trainings if training.status == "ok"]
        needs = beside(record, timed)
        peak_bytes = _peak_bytes_per_image(needs) if needs else None
        if psnr_db and peak_bytes is not None:
            quantities["expressiveness"] = {"psnr_db": float(np.mean(psnr_db)), "peak_bytes_per_image": peak_bytes}
    return quantities


def _peak_bytes_per_image(record: Record) -> int | None:
    """What one more image adds to the peak of this network's training step, with the most that kernels can take."""
    part = record.memory or record.timing
    peak_bytes = part.peak_bytes_per_image if part else None
    return peak_bytes["high"] if peak_bytes else None


def _stability(trainings: Sequence[Training]) -> dict[str, float]:
    curves = [pd.DataFrame([p.model_dump() for p in t.curve]) for t in trainings if t.status == "ok" and t.curve]
    first = [curve[: len(curve) // 2] for curve in curves]
    second = [curve[len(curve) // 2 :] for curve in curves]
    quartiles = [half["gradient_norm"].quantile([0.25, 0.75]) for half in second]
    stability: dict[str, float] = {
        "trainings": len(trainings),
        "diverged": sum(training.status == "diverged" for training in trainings),
        "gradient_norm_spread": geometric_mean([_ratio(upper, lower) for lower, upper in quartiles]),
    }
    solved = [half["solver_converged"].astype(float).mean() for half in second]
    stability["solves_converged_second_half"] = pd.Series(solved, dtype=float).mean()
    for name, halves in (("first_half", first), ("second_half", second)):
        evaluations = pd.Series([half["solver_evaluations"].astype(float).mean() for half in halves], dtype=float)
        residuals = [half["solver_residual"].astype(float).dropna() for half in halves]
        stability[f"solver_evaluations_{name}"] = evaluations.mean()
        stability[f"solver_residual_{name}"] = geometric_mean([geometric_mean(r) for r in residuals])
    return stability


def _ratio(upper: float, lower: float) -> float:
    """How far two gradient norms lie apart: not at all where both are 0."""
    return upper / lower if lower else math.inf if upper else 1.0


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per property and method: word, the numbers that it follows from, and the paper's word."""
    rows = []
    for each in PROPERTIES:
        values = frame[frame["property"] == each.name].pivot(
            index=["method", "task"], columns="quantity", values="value"
        )
        verdicts = judge(each, values) if len(values) else {}
        in_paper = paper_tables()["properties"][each.name]
        for method, architecture in frame.groupby("method", sort=False)["architecture"].first().items():
            verdict = verdicts.get(str(method), NOT_MEASURED)
            paper = in_paper.get(IN_PAPER.get(architecture, architecture))
            rows.append({"property": each.name, "method": method, **verdict._asdict(), "word_in_paper": paper})
    return pd.DataFrame(rows)


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text: properties down, methods across; "our word (numbers) / the paper's word"."""
    verdicts = judged(frame)
    verdicts["text"] = [_text(row) for _, row in verdicts.iterrows()]
    table = verdicts.pivot(index="property", columns="method", values="text")
    table = table.loc[[each.name for each in PROPERTIES], list(verdicts["method"].unique())]
    table.index = pd.Index([name.replace("_", " ") for name in table.index])
    return table.rename_axis(columns=None).reset_index(names="")


def _text(row: Any) -> str:
    numbers = f" ({row['numbers']})" if row["numbers"] else ""
    return f"{row['word']}{numbers}" + ("" if pd.isna(row["word_in_paper"]) else f" / {row['word_in_paper']}")


def caption(frame: pd.DataFrame) -> str:
    """The rules, and what was measured where, in words."""
    measured = []
    for stage, of_stage in frame.groupby("stage", sort=False):
        how = [f"preset {preset}" for preset in of_stage["preset"].dropna().unique()]
        how += of_stage["device"].dropna().unique().tolist()
        tasks = ", ".join(of_stage["task"].unique())
        measured.append(f"{stage} of {tasks}" + (f" ({', '.join(how)})" if how else ""))
    is_small = (frame["preset"] == "demo").any()
    note = " The demo's times and PSNR rank methods; they do not compare with published numbers." if is_small else ""
    meanings = "; ".join(f"{each.name.replace('_', ' ')}: {each.meaning}" for each in PROPERTIES)
    return (
        f"Word (numbers) / the paper's word. {RULES} Quantities: {meanings}. Measured: {'; '.join(measured)}; "
        f"torch {', '.join(frame['torch'].unique())}.{note}"
    )
