"""The stage timing: seconds of a training step and of an evaluation, and what one of each does.

Every quantity is measured after runs that do not count, each time with the device synchronised before and after.
What the step would take on a GPU is recorded beside it, without data, so that a point of a plot is one network's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from bench.errors import UsageError
from bench.execution import devices
from bench.execution.pool import available_cores
from bench.gradient_bias import gradient_bias
from bench.memory import Trace, largest_batch
from bench.records import Calls, Parameters, Record, Timing
from bench.stages.memory import bytes_per_image, recorded, simulated_engine
from bench.strategies.naming import is_plain

if TYPE_CHECKING:
    from bench.cells.cell import Cell
    from bench.config import TimingSection
    from bench.models.anderson import SolveStatistics
    from bench.models.architectures.base import Architecture

LEAST_REPEATS = 3
Result = TypeVar("Result")


def measure(cell: Cell, earlier: Record | None, folder: Path) -> dict[str, object]:
    """The record's parts `timing`, `parameters` and `image_shape`.

    Raises:
        UsageError: no batch fits on the card, or a GPU is asked for and there is none.
    """
    device = devices.chosen(cell.timing.device)
    threads = available_cores() if device.type == "cpu" else None
    if threads:
        torch.set_num_threads(threads)
    stated = cell.timing.batch
    workload = cell.workload
    trace = recorded(cell)
    batch = _largest(cell, trace) if stated == "largest" else stated
    model = workload.build(device)
    optimizer = workload.optimizer(model)
    image = torch.rand(batch, *model.operator.image_shape, device=device)
    measurement = model.operator(image)

    def train() -> list[SolveStatistics]:
        optimizer.zero_grad(set_to_none=True)
        _loss, reconstruction = workload.gradients(model, image, measurement)
        workload.update(model, optimizer)
        return reconstruction.solves

    @torch.no_grad()
    def evaluate() -> None:
        model(measurement)

    training_step_seconds = repeated_seconds(train, device, cell.timing)
    training_calls, solves = _counted(model, train)
    model.eval()
    evaluation_seconds = repeated_seconds(evaluate, device, cell.timing)
    evaluation_calls, _ = _counted(model, evaluate)
    timing = Timing(
        device=devices.describe(device),
        threads=threads,
        batch=batch,
        batch_chosen="largest" if stated == "largest" else "stated",
        training_step_seconds=training_step_seconds,
        evaluation_seconds=evaluation_seconds,
        training_calls=training_calls,
        evaluation_calls=evaluation_calls,
        solver_evaluations=mean_evaluations(solves),
        backward_evaluations=mean_evaluations([solve.backward for solve in solves if solve.backward]),
        peak_bytes_per_image=bytes_per_image(trace, workload),
        gradient_bias=None if is_plain(cell.architecture) else gradient_bias(workload, device),
    )
    parameters = Parameters(trainable=model.trainable_parameters, paper=model.paper_parameters)
    return {"image_shape": model.operator.image_shape, "parameters": parameters, "timing": timing}


def repeated_seconds(run: Callable[[], object], device: torch.device, options: TimingSection) -> list[float]:
    """Seconds of each of several runs, after some that do not count; as many as `options` allows."""
    for _ in range(options.warmup):
        run()
    seconds: list[float] = []
    end = time.perf_counter() + options.seconds_per_quantity
    while len(seconds) < LEAST_REPEATS or (len(seconds) < options.repeats and time.perf_counter() < end):
        _synchronize(device)
        start = time.perf_counter()
        run()
        _synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _counted(model: Architecture, run: Callable[[], Result]) -> tuple[Calls, Result]:
    """How often one run applies the operator, and what it returns."""
    model.operator.calls.reset()
    result = run()
    calls = model.operator.calls
    return Calls(forward=calls.forward, adjoint=calls.adjoint), result


def mean_evaluations(solves: Sequence[SolveStatistics]) -> float | None:
    """Evaluations of a solve, as the mean over fixed points and images; None where there are no fixed points."""
    if not solves:
        return None
    return float(torch.stack([solve.evaluations for solve in solves]).double().mean())


def _largest(cell: Cell, trace: Trace) -> int:
    """The largest batch that fits on the cell's first card, by simulation."""
    batch = largest_batch(simulated_engine(cell, trace, cell.cards[0])).batch
    if not batch:
        raise UsageError(
            f"no step to time: batch 1 does not fit on {cell.cards[0].name}; state a batch or a larger cap"
        )
    return cell.workload.images(batch)
