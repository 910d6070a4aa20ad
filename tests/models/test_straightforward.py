"""Our networks against plain ones, written from the equations with nothing of ours (benchmarks/straightforward.py)."""

from dataclasses import replace

import pytest
import straightforward
import torch

from bench import models
from bench.models.anderson import SolverOptions
from bench.models.architectures.base import ModelOptions
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

TASKS = {
    "deblurring": lambda: GaussianBlur((3, 12, 10), dtype=torch.float64),
    "ct": lambda: Radon(image_size=12, detectors=18, angles=10, dtype=torch.float64),
    "mri": lambda: MRI((2, 12, 11), dtype=torch.float64),
}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def both(name, task, options):
    """Our network, its plain twin, images and measurements."""
    torch.manual_seed(0)
    model = models.get(name)(TASKS[task](), replace(options, initial_step=0.5))
    images = torch.rand(2, *model.operator.image_shape)
    return model, straightforward.twin(model), images, model.operator(images)


def compare(model, plain, images, measurements, tolerance):
    ours, theirs = model(measurements).image, plain(measurements)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for image in (ours, theirs):
        (image - images).square().mean().backward()
    for theirs, ours in straightforward.parameter_pairs(plain, model):
        assert ours.grad.norm() > 0
        assert (ours.grad - theirs.grad).norm() <= tolerance * ours.grad.norm()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"])
def test_same_image_and_gradients_after_as_many_evaluations(name, task):
    """Far from convergence too: the solvers go through the same iterates."""
    solver = SolverOptions(max_evaluations=8, tolerance=0)
    compare(*both(name, task, ModelOptions(stages=3, gradient="two-graph", solver=solver)), tolerance=1e-9)


@pytest.mark.parametrize("name", ["LUSER-SW", "LUSER-DW"])
@pytest.mark.parametrize("gradient", ["one-graph", "recomputed"])
def test_other_gradients_are_the_same_at_the_fixed_point(name, gradient):
    solver = SolverOptions(max_evaluations=40, tolerance=0)
    compare(*both(name, "deblurring", ModelOptions(stages=2, gradient=gradient, solver=solver)), tolerance=1e-8)
