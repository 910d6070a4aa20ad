"""Pictures of trainings: loss and validation PSNR over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.records import Record, Training
from bench.report.methods import CLASSICAL, by_task, conditions, label, newest
from bench.report.plots.style import Look, finish, log_scale, looks, new_figure, plot_to_infinity, tip

WINDOWS = 15  # the moving median of the loss spans a curve's length over this


def draw(records: Sequence[Record]) -> Figure | None:
    """Loss above, validation PSNR beneath, a column per task and a line per seed; a cross ends what diverged."""
    trained = [record for record in newest(records, "accuracy") if record.architecture not in CLASSICAL]
    trained = [r for r in trained if r.accuracy and any(training.curve for training in r.accuracy.trainings)]
    if not trained:
        return None
    tasks = by_task(trained)
    look = looks(label(record, trained) for record in trained)
    figure = new_figure(3.4 * len(tasks), 5.1)
    grid = figure.subplots(2, len(tasks), squeeze=False, sharex="col")
    for (task, of_task), (above, beneath) in zip(tasks.items(), grid.T, strict=True):
        for record in of_task:
            assert record.accuracy is not None
            name = label(record, trained)
            for training in record.accuracy.trainings:
                if training.curve:
                    _draw_training(above, beneath, training, look[name], name)
        above.set_title(task)
        log_scale(above, "y")
        beneath.set_xlabel("training step")
    grid[0, 0].set_ylabel(f"training loss, moving median\n({conditions(trained)})")
    grid[1, 0].set_ylabel("validation PSNR, dB")
    finish(figure)
    return figure


def _draw_training(above: Any, beneath: Any, training: Training, look: Look, name: str) -> None:
    curve = pd.DataFrame([point.model_dump() for point in training.curve]).set_index("step")
    loss = curve["loss"].rolling(max(len(curve) // WINDOWS, 1), min_periods=1, center=True).median()
    # Markers stand apart, so that lines can be told from each other where they lie close.
    every = max(len(loss) // 5, 1)
    (line,) = above.plot(loss.index, loss, **look.line, linewidth=1.2, markersize=4, markevery=every, label=name)
    tip(line, said := f"{name}, seed {training.seed}")
    psnr_db = curve["validation_psnr_db"].dropna()
    plot_to_infinity(
        beneath, list(psnr_db.index), list(psnr_db), look.line, said, linewidth=1.2, markersize=5, label=name
    )
    if training.status == "diverged" and np.isfinite(loss).any():
        last = loss.index[np.isfinite(loss)][-1]
        above.plot(last, loss[last], color=look.color, marker="x", markersize=10, markeredgewidth=2.5)
