"""PSNR and SSIM of trained architectures and classical methods, as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.records import Record


def arranged(records: Sequence[Record]) -> pd.DataFrame:
    """One row per cell of the stage accuracy: mean ± standard deviation over the test images of all trainings."""
    table = pd.DataFrame([_row(record) for record in records])
    table["task"] = table["task"].where(~table["task"].duplicated(), "")
    return table


def _row(record: Record) -> dict[str, str]:
    names = {"task": record.task, "reconstructed by": record.architecture}
    accuracy = record.accuracy
    if accuracy is None:
        return names | {"PSNR, dB": "failed", "SSIM": "", "trainings": "", "training, s": "", "evaluation, s": ""}
    ended = [training for training in accuracy.trainings if training.status == "ok"]
    diverged = len(accuracy.trainings) - len(ended)
    chosen = ", ".join(f"{value:g} {name}" for name, value in accuracy.chosen.items())
    trainings = f"{len(ended)} of {len(ended) + diverged}" if record.parameters else chosen
    return names | {
        "PSNR, dB": _spread([value for training in ended for value in training.psnr_db], 2),
        "SSIM": _spread([value for training in ended for value in training.ssim], 3),
        "trainings": trainings,
        "training, s": f"{sum(training.training_seconds for training in accuracy.trainings):.1f}",
        "evaluation, s": f"{sum(training.evaluation_seconds for training in ended):.2f}",
    }


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "diverged"
    series = pd.Series(values)
    return f"{series.mean():.{digits}f} ± {series.std(ddof=0):.{digits}f}"


def caption(records: Sequence[Record]) -> str:
    """What the numbers are of, and why trainings diverged."""
    lines = []
    for record in records:
        accuracy = record.accuracy
        if accuracy is None:
            continue
        data, shape = accuracy.data, "x".join(map(str, record.image_shape or ()))
        lines.append(
            f"{record.task}: {data.test_images} test images {shape} of {data.test_subjects} subjects ({data.name}, "
            f"trained on {data.train_images} of {data.train_subjects}), PSNR and SSIM of the {data.metric}, "
            f"data range {data.data_range:g}; preset {record.preset}, {record.settings['accuracy']['steps']} steps on "
            f"{record.settings['accuracy']['batch']} images, K={record.settings['model']['stages']}, at most "
            f"{record.settings['model']['solver']['max_evaluations']} solver evaluations, on {accuracy.device}."
        )
        lines += [
            f"{record.architecture} on {record.task}, seed {training.seed}, diverged: {training.reason}."
            for training in accuracy.trainings
            if training.status == "diverged"
        ]
    return "\n".join(dict.fromkeys(lines)) or "No cell was trained."
