"""How well a cell learns: its trainings, and the test images' PSNR and SSIM."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bench.names import RelativeName
from bench.records.values import AnyFloat, Count, Elapsed, Measurements, Metric, Part, Positive, PsnrDb, Range, Window


class DataSets(Part):
    """The images of a training: how many, and of how many patients, volumes, photographs or phantoms.

    `data_range` is that of PSNR and SSIM where it is fixed, else its mean over the test images; `range` says which, and
    `metric` what they are taken of. `acceleration` is the true one of MRI: columns over measured columns.
    `measured_by` are the options in which the operator that measured differs from the one that reconstructs;
    `measurements` says whether they were simulated at all, or are the images' own.
    """

    name: str
    train_images: Count
    train_subjects: Count
    validation_images: Count
    test_images: Count
    test_subjects: Count
    data_range: float = Field(gt=0, allow_inf_nan=False)
    metric: Metric
    range: Range = "fixed"
    ssim: Window = "gaussian"
    acceleration: float | None = None
    measured_by: dict[str, Any] = Field(default_factory=dict)
    measurements: Measurements = "simulated"


class Solves(Part):
    """What became of the solves for fixed points, one for each image and fixed point.

    Attributes:
        count: of solves.
        converged: of them, those whose relative residual came within the tolerance.
        worst_residual: the largest relative residual at which one ended.
    """

    count: Positive
    converged: Count
    worst_residual: AnyFloat

    @property
    def share(self) -> float:
        """The share of the solves that found their fixed point."""
        return self.converged / self.count


class Point(Part):
    """A training at one of its steps; `solver_*` are means over images and fixed points, None where there are none.

    `solver_converged` is the share of the solves that came within the tolerance: only there is an implicit gradient the
    exact one. The validation's PSNR is known at some steps only. `gradient_norm` is that before clipping.
    """

    step: Count
    loss: float
    gradient_norm: float
    solver_evaluations: float | None
    solver_residual: AnyFloat | None
    solver_converged: float | None = None
    validation_psnr_db: PsnrDb | None = None


class Training(Part):
    """One training: its curve, and the test images' PSNR and SSIM, image by image.

    `status` "diverged" carries its `reason`, the curve before it, and no metrics. `training_seconds` is that of the
    steps, loading included, without validation and checkpoints; `evaluation_seconds` that of all test images together.
    A classical method has no curve, and its training is the choice of its parameter. `test_solves` is what became of
    the fixed points of the test images, where there are any, and `worst_gap` the largest relative duality gap at which
    a classical method that minimises something ended.
    """

    seed: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    curve: list[Point]
    psnr_db: list[PsnrDb]
    ssim: list[float]
    training_seconds: Elapsed
    evaluation_seconds: Elapsed
    test_solves: Solves | None = None
    worst_gap: AnyFloat | None = None

    @model_validator(mode="after")
    def _is_judged_if_it_ended(self) -> Training:
        images = len(self.psnr_db) if self.status == "ok" else 0
        if len(self.psnr_db) != images or len(self.ssim) != images or (self.status == "ok" and not images):
            raise ValueError(
                f'status "{self.status}" with {len(self.psnr_db)} PSNR and {len(self.ssim)} SSIM: expected one of each '
                "test image where the training came to its end, and none where it diverged"
            )
        if (self.reason is None) != (self.status == "ok"):
            raise ValueError("expected the reason of a training that diverged, and of no other")
        return self


class Accuracy(Part):
    """The accuracy of a cell: one training per seed.

    `reconstructions` names the file, relative to the output folder, with the first test images' as the first training
    that came to its end gives them. `chosen` is what a classical method's validation images chose: "iterations" of
    gradient descent, "weight" of total variation.
    """

    device: str
    threads: Positive | None
    data: DataSets
    trainings: list[Training] = Field(min_length=1)
    reconstructions: RelativeName | None
    chosen: dict[str, float] = Field(default={})

    @model_validator(mode="after")
    def _is_judged_on_the_same_images(self) -> Accuracy:
        images = {len(training.psnr_db) for training in self.trainings if training.status == "ok"}
        if len(images) > 1:
            raise ValueError(f"trainings with {' and '.join(map(str, sorted(images)))} test images: expected the same")
        return self
