"""The stage accuracy: an architecture trained from each seed, or a classical method, judged on the test images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench import operators
from bench.accuracy import splits as splits_of
from bench.accuracy.checkpoint import Checkpoint
from bench.accuracy.classical import METHODS
from bench.accuracy.evaluation import Evaluation, Network, counted, evaluate, is_psnr, mean_psnr_db
from bench.accuracy.reconstructions import keep
from bench.accuracy.training import DivergedError, Tell, Trainer
from bench.execution import devices, progress
from bench.records import Accuracy, Parameters, Point, Record, Solves, Training

if TYPE_CHECKING:
    from bench.accuracy.splits import Splits
    from bench.cells.cell import Cell

TOGETHER = 16  # images that a classical method reconstructs at a time


def measure(cell: Cell, earlier: Record | None, folder: Path) -> dict[str, object]:
    """The record's parts `accuracy`, `image_shape` and, of an architecture, `parameters`.

    A training that was interrupted goes on from its checkpoint below `folder`.

    Raises:
        UsageError: no images, or a GPU is asked for and there is none.
        StorageError: a checkpoint cannot be used or written.
    """
    device = devices.chosen(cell.accuracy.device)
    if device.type == "cpu":
        torch.set_num_threads(cell.accuracy.threads)
    splits = splits_of.load(cell.task, cell.workload.task, cell.accuracy)
    if cell.architecture in METHODS:
        return _classical(cell, splits, device, folder)
    return _trained(cell, splits, device, folder)


def _trained(cell: Cell, splits: Splits, device: torch.device, folder: Path) -> dict[str, object]:
    """One training per seed; the first that comes to its end gives the reconstructions that are kept."""
    seeds, steps = cell.accuracy.seeds, cell.accuracy.steps
    trainings: list[Training] = []
    reconstructions = None
    for number, seed in enumerate(seeds):
        trainer = Trainer(cell.workload, cell.accuracy, splits, seed, device, Checkpoint.of(cell, seed, folder))

        def tell(step: int, status: str, before: int = number * steps, seed: int = seed) -> None:
            progress.tell(before + step, len(seeds) * steps, f"seed {seed}: {status}")

        training = _training(trainer, tell)
        trainings.append(training)
        if training.status == "ok" and reconstructions is None:
            reconstructions = keep(cell, trainer.model.operator, Network(trainer.model), splits.test, device, folder)
    model = trainer.model
    return {
        "image_shape": model.operator.image_shape,
        "parameters": Parameters(trainable=model.trainable_parameters, paper=model.paper_parameters),
        "accuracy": _accuracy(cell, splits, device, trainings, reconstructions),
    }


def _training(trainer: Trainer, tell: Tell) -> Training:
    """A training to its end, and the test images' metrics; or why there are none."""
    try:
        trainer.run(tell)
    except DivergedError as error:
        return _diverged(trainer.seed, str(error), trainer.curve, trainer.seconds)
    network = Network(trainer.model)
    done = evaluate(network, trainer.splits.test, trainer.splits.metrics, trainer.device, trainer.splits.volumes)
    solves = counted(network.solves, trainer.workload.options.solver.tolerance)
    return _judged(trainer.seed, done, trainer.curve, trainer.seconds, solves)


def _judged(
    seed: int,
    done: Evaluation,
    curve: list[Point],
    training_seconds: float,
    solves: Solves | None = None,
    worst_gap: float | None = None,
) -> Training:
    if not done.finite:
        reason = "reconstructions of test images that are not finite, or too far off for a PSNR"
        return _diverged(seed, reason, curve, training_seconds, done.seconds)
    return Training(
        seed=seed,
        status="ok",
        curve=curve,
        psnr_db=done.psnr_db,
        ssim=done.ssim,
        training_seconds=training_seconds,
        evaluation_seconds=done.seconds,
        test_solves=solves,
        worst_gap=worst_gap,
    )


def _diverged(
    seed: int, reason: str, curve: list[Point], training_seconds: float, evaluation_seconds: float = 0.0
) -> Training:
    return Training(
        seed=seed,
        status="diverged",
        reason=reason,
        curve=curve,
        psnr_db=[],
        ssim=[],
        training_seconds=training_seconds,
        evaluation_seconds=evaluation_seconds,
    )


def _classical(cell: Cell, splits: Splits, device: torch.device, folder: Path) -> dict[str, object]:
    """A classical method with the value that does best on the validation images; that is its training."""
    task = cell.workload.task
    operator = operators.get(task.operator)(**task.options, device=device)
    method = METHODS[cell.architecture]
    validation, test = (splits_of.merged(batches, TOGETHER) for batches in (splits.validation, splits.test))
    start = time.perf_counter()
    value = method.grid[0]
    if len(method.grid) > 1:
        psnr_db = {}
        for number, candidate in enumerate(method.grid):
            reconstruct = method.at(operator, candidate, nearly=True)
            psnr_db[candidate] = mean_psnr_db(reconstruct, validation, splits.metrics, device)
            progress.tell(
                number + 1, len(method.grid), f"{method.parameter} {candidate:g}: {psnr_db[candidate]:.1f} dB"
            )
        judged = [candidate for candidate in psnr_db if is_psnr(psnr_db[candidate])]
        value = max(judged, key=psnr_db.__getitem__, default=value)
    seconds = time.perf_counter() - start
    reconstruct = method.at(operator, value)
    done = evaluate(reconstruct, test, splits.metrics, device, splits.volumes)
    training = _judged(cell.accuracy.seeds[0], done, [], seconds, worst_gap=reconstruct.worst_gap)
    ended = training.status == "ok"
    reconstructions = keep(cell, operator, reconstruct, splits.test, device, folder) if ended else None
    chosen = {method.parameter: value} if len(method.grid) > 1 else {}
    return {
        "image_shape": operator.image_shape,
        "accuracy": _accuracy(cell, splits, device, [training], reconstructions, chosen),
    }


def _accuracy(
    cell: Cell,
    splits: Splits,
    device: torch.device,
    trainings: list[Training],
    reconstructions: str | None,
    chosen: dict[str, float] | None = None,
) -> Accuracy:
    return Accuracy(
        device=devices.describe(device),
        threads=cell.accuracy.threads if device.type == "cpu" else None,
        data=splits.described,
        trainings=trainings,
        reconstructions=reconstructions,
        chosen=chosen or {},
    )
