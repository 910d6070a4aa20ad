"""Table 2: PSNR and SSIM of the test images, and what is gained over the initialisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.records import DataSets, Record, Training
from bench.report.methods import INITIALISATION, in_order, loss, outcome_and_sizes, problem
from bench.report.paper import paper_tables

CONVERGED = 0.99
"""A share of solves below it is said beside the table."""

PAPERS_DATA = ("CelebA", "LoDoPaB-CT", "fastMRI")
PARTS = {
    "the paper's number": r" / [\d.]+$",
    "gain over the initialisation, dB": r" \([+-][\d.]+\)(?= |$)",
    "spread over images, and over seeds": r"( ± [\d.]+)+$",
}
"""What a cell says after its mean, the last first."""

IN_PAPER = {"final": "final", "auxiliary": "aux"}  # the paper's table has the losses under these names

_COLUMNS = {"ssim": "ssim_window"}  # of the data's fields: those that another column's name would hide


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record of the stage accuracy.

    `psnr_db` and `ssim` are means over test images and over the seeds whose training did not diverge; their spreads are
    standard deviations over images (of the mean over seeds) and over seeds (of the mean over images). `gain_db` is
    over the initialisation of the same images. A PSNR is infinite where an image is reconstructed exactly; then there
    is no spread, and no gain of one infinity over another.
    """
    of_stage = [record for record in in_order(records) if record.stage == "accuracy"]
    rows = [_row(record) for record in of_stage]
    start = {
        problem(record): row["psnr_db"]
        for record, row in zip(of_stage, rows, strict=True)
        if record.architecture == INITIALISATION
    }
    for record, row in zip(of_stage, rows, strict=True):
        if record.architecture != INITIALISATION:
            before = start.get(problem(record), np.nan)
            row["gain_db"] = np.nan if np.isinf(before) else row["psnr_db"] - before
    return pd.DataFrame(rows)


def _row(record: Record) -> dict[str, Any]:
    in_paper = paper_tables()["accuracy"].get(record.task, {}).get(record.architecture, {})
    psnr_db, ssim = in_paper.get(IN_PAPER.get(loss(record)), (np.nan, np.nan))
    row = {
        "task": record.task,
        "architecture": record.architecture,
        "loss": loss(record),
        **outcome_and_sizes(record),
        "gradient": record.settings["model"]["gradient"],
        "steps": record.settings["accuracy"]["steps"],
        "torch": record.provenance.torch,
        **{_COLUMNS.get(name, name): None for name in DataSets.model_fields},
        "seeds": 0,
        "diverged": 0,
        **dict.fromkeys(("psnr_db", "psnr_db_over_images", "psnr_db_over_seeds"), np.nan),
        **dict.fromkeys(("ssim", "ssim_over_images", "ssim_over_seeds"), np.nan),
        "gain_db": np.nan,
        "solves_converged": np.nan,
        "worst_gap": np.nan,
        "psnr_db_in_paper": psnr_db,
        "ssim_in_paper": ssim,
    }
    accuracy = record.accuracy
    if accuracy is None:
        return row
    trained = [training for training in accuracy.trainings if training.status == "ok"]
    diverged = len(accuracy.trainings) - len(trained)
    return (
        row
        | {_COLUMNS.get(name, name): value for name, value in accuracy.data.model_dump().items()}
        | {"status": record.status if trained else "diverged", "seeds": len(accuracy.trainings), "diverged": diverged}
        | (_metrics(trained) if trained else {})
        | _convergence(trained)
    )


def _convergence(trained: list[Training]) -> dict[str, float]:
    """The share of the test images' fixed points that were found, and the worst duality gap; nothing of neither."""
    solves = [training.test_solves for training in trained if training.test_solves]
    gaps = [training.worst_gap for training in trained if training.worst_gap is not None]
    found = {"solves_converged": sum(s.converged for s in solves) / sum(s.count for s in solves)} if solves else {}
    return found | ({"worst_gap": max(gaps)} if gaps else {})


def _metrics(trained: list[Training]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in ("psnr_db", "ssim"):
        values = np.array([getattr(training, name) for training in trained])  # [seeds, images]
        metrics[name] = values.mean()
        metrics[f"{name}_over_images"] = _spread(values.mean(axis=0))
        metrics[f"{name}_over_seeds"] = _spread(values.mean(axis=1))
    return metrics


def _spread(values: Any) -> float:
    """The standard deviation; unknown of a single value, and where one is infinite."""
    return float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else np.nan


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table as text: methods down, the classical ones first, and tasks across.

    Of several records of a method on a task with the same preset, the last one is shown.
    """
    labels = ["architecture", "loss", *(["preset"] if frame["preset"].nunique() > 1 else [])]
    shown = frame.drop_duplicates([*labels, "task"], keep="last")
    rows = []
    for label, of_method in shown.groupby(labels, sort=False, dropna=False):
        cells = of_method.set_index("task")
        names = dict(zip(labels, map(str, label), strict=True))
        rows.append(names | {"": "PSNR, dB"} | {task: _psnr(cell) for task, cell in cells.iterrows()})
        rows.append(dict.fromkeys(labels, "") | {"": "SSIM"} | {task: _ssim(cell) for task, cell in cells.iterrows()})
    columns = [*labels, "", *frame["task"].unique()]
    return pd.DataFrame(rows, columns=columns).fillna("").rename(columns={"architecture": "method"})


def _psnr(cell: Any) -> str:
    gain = "" if pd.isna(cell.gain_db) else f" ({cell.gain_db:+.2f})"
    return _text(cell, "psnr_db", 2, gain)


def _ssim(cell: Any) -> str:
    return _text(cell, "ssim", 3, "")


def _text(cell: Any, name: str, digits: int, gain: str) -> str:
    in_paper = cell[f"{name}_in_paper"]
    paper = "" if pd.isna(in_paper) else f" / {in_paper:.{digits}f}"
    if cell.status != "ok":
        return f"{cell.status}{paper}"
    spreads = (cell[f"{name}_over_images"], cell[f"{name}_over_seeds"])
    spread = "".join(f" ± {each:.{digits}f}" for each in spreads if not pd.isna(each))
    diverged = f" [{cell.diverged} of {cell.seeds} diverged]" if cell.diverged else ""
    return f"{cell[name]:.{digits}f}{spread}{gain}{diverged}{paper}"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, of how many images, at which sizes, in words."""
    done = frame[frame["psnr_db"].notna()]
    if done.empty:
        return "No method was trained to its end."
    over_seeds = " ± over seeds, where there are several" if done["psnr_db_over_seeds"].notna().any() else ""
    tasks = "; ".join(_images(of_task) for _, of_task in done.groupby("task", sort=False))
    sizes = ", ".join(
        f"preset {preset} (K={stages}, at most {evaluations} solver evaluations, {gradient} gradients, {steps} steps)"
        for preset, stages, evaluations, gradient, steps in done[
            ["preset", "stages", "max_evaluations", "gradient", "steps"]
        ]
        .drop_duplicates()
        .to_numpy()
    )
    found = done[done["solves_converged"].notna()]
    share = found["solves_converged"].min() if len(found) else 1.0
    short = ", ".join(
        f"{row.architecture} on {row.task} {row.solves_converged:.0%}"
        for row in found[found["solves_converged"] < CONVERGED].itertuples()
    )
    of_which = short or f"at least {share:.0%} of every method"
    solved = f" Fixed points of test images found: {of_which}." if len(found) else ""
    gaps = done["worst_gap"].max()
    solved += "" if pd.isna(gaps) else f" Total variation to a relative duality gap of at most {gaps:.0e}."
    papers = (done["preset"] == "paper") & done["name"].isin(PAPERS_DATA)
    note = "" if papers.all() else " Ranks methods on small data; does not compare with published numbers."
    return (
        f"PSNR and SSIM: mean ± standard deviation over test images{over_seeds} (gain over the initialisation, dB) / "
        f"the paper's. {tasks}. Sizes: {sizes}; torch {', '.join(done['torch'].unique())}.{solved}{note}"
    )


def _images(of_task: pd.DataFrame) -> str:
    """The data of a task, by its last record."""
    row = of_task.iloc[-1]
    part = {"real": " of the real channel", "magnitude": " of the magnitude"}.get(row.metric, "")
    if row.range == "fixed":
        relative = f"data range {row.data_range:g}{part}"
    else:
        relative = f"range that of each {row.range}{part}"
    window = ", SSIM with a uniform window" if row.ssim_window == "uniform" else ""
    other = ", ".join(f"{name} {value}" for name, value in (row.measured_by or {}).items())
    crime = f", measured with {other}" if other else ", measured with the operator that reconstructs"
    if row.measurements == "own":
        crime = ", with the measurements that the images come with"
    measured = "" if pd.isna(row.acceleration) else f", {row.acceleration:.2f}x accelerated"
    return (
        f"{row.task}: {row['name']}, {row.image_shape}, trained on {_count(row.train_images, row.train_subjects)}, "
        f"tested on {_count(row.test_images, row.test_subjects)}, {relative}{window}"
        f"{measured}{crime}"
    )


def _count(images: float, subjects: float) -> str:
    return f"{images:.0f} images of {subjects:.0f} subject{'' if subjects == 1 else 's'}"
