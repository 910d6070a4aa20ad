"""The seconds of a cell's training steps and evaluations."""

from __future__ import annotations

from typing import Literal

from bench.records.values import Bound, Count, Part, Positive, Repeats


class Calls(Part):
    """How often the operator was applied to a batch: A and A^T."""

    forward: Count
    adjoint: Count


class Timing(Part):
    """Seconds of training steps and of evaluations on a batch, one number per repeat; and what one of each does.

    `solver_evaluations` is the mean over a training step's fixed points and images, `backward_evaluations` that of
    the solves for the gradient; None where there are none. `batch_chosen` says how the batch came about.
    `peak_bytes_per_image` is what one more image adds to the step's peak on a GPU, recorded of the very network that is
    timed; None in records from before it was. `gradient_bias` is that of a strategy (bench.gradient_bias), None
    without one.
    """

    device: str
    threads: Positive | None
    batch: Positive
    batch_chosen: Literal["stated", "largest"]
    training_step_seconds: Repeats
    evaluation_seconds: Repeats
    training_calls: Calls
    evaluation_calls: Calls
    solver_evaluations: float | None
    backward_evaluations: float | None
    peak_bytes_per_image: dict[Bound, Count] | None = None
    gradient_bias: float | None = None
