"""Seconds of training and of evaluation, and what they are spent on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Record
from bench.report.methods import outcome_and_sizes

PARTS = {"quartiles": r" \[[^]]*\]$"}
"""What a cell says after its median."""


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per cell: seconds of a step and of an evaluated image (median, quartiles), calls, evaluations."""
    return pd.DataFrame([_row(record) for record in records if record.stage == "timing"])


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "task": record.task,
        "architecture": record.architecture,
        **outcome_and_sizes(record),
        "torch": record.provenance.torch,
    }
    timing = record.timing
    if timing is None:
        return row
    quartiles = [0.25, 0.5, 0.75]
    step_lower, step, step_upper = np.quantile(timing.training_step_seconds, quartiles).tolist()
    lower, evaluation, upper = (np.quantile(timing.evaluation_seconds, quartiles) / timing.batch).tolist()
    return row | {
        "device": timing.device,
        "threads": timing.threads,
        "batch": timing.batch,
        "repeats": len(timing.training_step_seconds),
        "training_step_seconds": step,
        "training_step_seconds_lower_quartile": step_lower,
        "training_step_seconds_upper_quartile": step_upper,
        "training_images_per_second": timing.batch / step,
        "evaluation_seconds_per_image": evaluation,
        "evaluation_seconds_per_image_lower_quartile": lower,
        "evaluation_seconds_per_image_upper_quartile": upper,
        "training_forward_calls": timing.training_calls.forward,
        "training_adjoint_calls": timing.training_calls.adjoint,
        "evaluation_forward_calls": timing.evaluation_calls.forward,
        "evaluation_adjoint_calls": timing.evaluation_calls.adjoint,
        "solver_evaluations": timing.solver_evaluations,
        "backward_evaluations": timing.backward_evaluations,
    }


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table as text; spreads in brackets are quartiles."""
    table = pd.DataFrame([_text(row) for row in frame.to_dict("records")])
    table["task"] = table["task"].where(~table["task"].duplicated(), "")
    return table


def _text(row: Any) -> dict[str, str]:
    names = {"task": row["task"], "architecture": row["architecture"]}
    if row["status"] == "failed":
        return names | {"image": row["image_shape"], "batch": "failed"}
    return names | {
        "image": row["image_shape"],
        "batch": f"{row['batch']:.0f}",
        "training step, s": _spread(row, "training_step_seconds"),
        "images/s": f"{row['training_images_per_second']:.2f}",
        "A + Aᵀ per step": f"{row['training_forward_calls']:.0f} + {row['training_adjoint_calls']:.0f}",
        "evaluation, s/image": _spread(row, "evaluation_seconds_per_image"),
        "A + Aᵀ": f"{row['evaluation_forward_calls']:.0f} + {row['evaluation_adjoint_calls']:.0f}",
        "solver evaluations": _evaluations(row),
    }


def _spread(row: Any, name: str) -> str:
    return f"{row[name]:.3g} [{row[f'{name}_lower_quartile']:.3g}, {row[f'{name}_upper_quartile']:.3g}]"


def _evaluations(row: Any) -> str:
    forward, backward = row["solver_evaluations"], row["backward_evaluations"]
    if pd.isna(forward):
        return ""
    return f"{forward:.1f}" + ("" if pd.isna(backward) else f" + {backward:.1f}")


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, at which sizes and on what, in words."""
    done = frame[frame["status"] == "ok"]
    if done.empty:
        return "No cell was timed."
    threads = f", {done['threads'].iloc[0]:.0f} threads" if done["threads"].notna().any() else ""
    sizes = ", ".join(
        f"preset {preset} (K={stages}, at most {evaluations} solver evaluations)"
        for preset, stages, evaluations in done[["preset", "stages", "max_evaluations"]].drop_duplicates().to_numpy()
    )
    return (
        f"Seconds: median [quartiles] of {done['repeats'].min():.0f} to {done['repeats'].max():.0f} runs on "
        f"{', '.join(done['device'].unique())}{threads}; sizes: {sizes}. Solver evaluations: mean over images and "
        f"fixed points of a training step, forward + for the gradient; torch {', '.join(done['torch'].unique())}."
    )
