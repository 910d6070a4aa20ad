"""How often a training step makes the host wait for the device.

A value read by the host, or memory copied between the two, is an operation of its own below autograd. On the meta
device there are no values at all: a step that runs there has asked for none, whatever the operation is called.
"""

import pytest
import torch
from small_networks import small
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import models
from bench.models.anderson import SolverOptions
from bench.models.architectures.base import ModelOptions
from bench.models.implicit import GRADIENTS
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

TASKS = {
    "deblurring": lambda device: GaussianBlur((3, 8, 8), device=device),
    "ct": lambda device: Radon(image_size=8, detectors=12, angles=8, device=device),
    "mri": lambda device: MRI((2, 8, 8), device=device),
}
OTHERS = [gradient for gradient in GRADIENTS if gradient != "one-graph"]

READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"}
"""Operations of aten whose result, or its size, the host has to wait for."""

CHECKED = {"linalg_cholesky", "linalg_inv", "linalg_solve", "_linalg_check_errors", "cholesky_solve"}
"""Operations whose CUDA kernels wait: factorisations that read back whether they succeeded (those called ..._ex do
not), and batches of cholesky_solve where PyTorch is built with MAGMA, whose spotrs_batched ends with a queue_sync."""


class Synchronisations(TorchDispatchMode):
    """Counts operations that make the host wait, and copies between the host and the meta device."""

    def __init__(self):
        super().__init__()
        self.reads, self.checks, self.copies = 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.reads += name in READS
        self.checks += name in CHECKED
        devices = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)}
        self.copies += name in {"_to_copy", "copy_"} and len(devices) > 1
        self.copies += name == "lift_fresh" and "meta" in devices  # torch.tensor(number, device=...)
        return result


def step_of(name, task, options, device):
    torch.manual_seed(0)
    operator = TASKS[task](device)
    with torch.device(device):
        model = models.get(name)(operator, small(options))
    images = torch.rand(2, *operator.image_shape, device=device)
    measurements = torch.rand(2, *operator.measurement_shape, device=device)

    def step():
        result = model(measurements)
        (result.image - images).square().mean().backward()
        return result

    return step


@pytest.mark.parametrize(("gradient", "task"), [("one-graph", task) for task in TASKS] + [(g, "mri") for g in OTHERS])
@pytest.mark.parametrize("name", models.names())
def test_a_step_with_a_fixed_number_of_evaluations_never_waits(name, gradient, task):
    solver = SolverOptions(max_evaluations=7, tolerance=0)
    step = step_of(name, task, ModelOptions(stages=1, gradient=gradient, solver=solver), "meta")
    with Synchronisations() as seen:
        step()
    assert (seen.reads, seen.checks, seen.copies) == (0, 0, 0)


@pytest.mark.parametrize("check_every", [3, 5])
@pytest.mark.parametrize("gradient", ["one-graph", *OTHERS])
@pytest.mark.parametrize("name", ["DEQ4IP", "LUSER-SW", "LUSER-DW"])
def test_a_step_waits_once_per_look_at_the_residuals(name, gradient, check_every):
    """No sample ever gets below the tolerance: all evaluations are made, and the last needs no look."""
    solver = SolverOptions(max_evaluations=7, tolerance=1e-30, check_every=check_every)
    step = step_of(name, "mri", ModelOptions(stages=2, gradient=gradient, solver=solver), "cpu")
    with Synchronisations() as seen:
        result = step()
    assert all(solve.evaluations.tolist() == [7, 7] for solve in result.solves)
    solves = len(result.solves) * (1 if gradient in ("jacobian-free", "phantom") else 2)
    assert (seen.reads, seen.checks) == (solves * (6 // check_every), 0)


def test_the_count_is_not_blind():
    x = torch.eye(2)
    with Synchronisations() as seen:
        x.sum().item()
        bool(x[0, 0])
        x.nonzero()
        torch.cholesky_solve(x, torch.linalg.cholesky(x))
    assert (seen.reads, seen.checks) == (3, 2)
    with Synchronisations() as seen:
        torch.ones(2).to("meta")
    assert seen.copies == 1
