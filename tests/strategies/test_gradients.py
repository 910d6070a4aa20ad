"""Every strategy's gradient against the plain one, in float64, on a small CT problem."""

from dataclasses import replace

import pytest
import torch

from bench import config, models, operators, strategies
from bench.cells.workload import Workload
from bench.models.anderson import SolverOptions

DEFAULT = config.load(config.default_path())
TASK = config.Task(operator="Radon", options={"image_size": 12, "detectors": 17, "angles": 8})
LU, DEQ, LUSER = "LU-DnCNN", "DEQ4IP", "LUSER-SW"

EXACT = [
    *((LU, name) for name in ("checkpoint", "nested", "lean", "lean-third", "checkpoint+lean-7of8", "host", "sgd")),
    *((DEQ, name) for name in ("recomputed", "recomputed+lean", "recomputed+lean-third")),
    *((DEQ, name) for name in ("recomputed+lean-quarter", "host+recomputed", "channels-last", "expandable")),
    *((LUSER, name) for name in ("two-graph", "recomputed", "recomputed+lean", "recomputed+lean-half")),
    *((LUSER, name) for name in ("host", "micro-batches", "channels-last", "adafactor", "adam-one-by-one")),
    ("LUSER-DW", "recomputed+lean+micro-batches"),
]
BIASED = [
    *((each, name) for each in (DEQ, LUSER) for name in ("jacobian-free", "phantom")),
    (LU, "micro-batches"),  # batch normalisation mixes the samples
]


def trained(architecture, strategy, dtype=torch.float64):
    """Gradients and buffers after one step of a small network on four images."""
    made = strategies.combination(strategy).laid_on(DEFAULT)
    solver = SolverOptions(max_evaluations=12, tolerance=0.0, ridge=1e-8)
    workload = Workload(architecture, replace(made.model, stages=2, solver=solver), TASK, made.training)
    torch.manual_seed(0)
    operator = operators.get(TASK.operator)(**TASK.options, dtype=dtype)
    model = models.get(architecture)(operator, workload.options).to(dtype)
    if made.training.memory_format == "channels_last":
        model.to(memory_format=torch.channels_last)
    images = torch.rand(4, *operator.image_shape, dtype=torch.float64).to(dtype)
    measurements = torch.rand(4, *operator.measurement_shape, dtype=torch.float64).to(dtype)
    workload.gradients(model, images, measurements)
    return {name: p.grad for name, p in model.named_parameters()}, dict(model.named_buffers())


def difference(found, expected):
    """The largest relative difference of any tensor."""
    assert found.keys() == expected.keys()
    pairs = [(found[name].double(), each.double()) for name, each in expected.items() if each.numel() and each.any()]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.fixture(scope="module")
def plain():
    return {name: trained(name, "plain") for name in (LU, DEQ, LUSER, "LUSER-DW")}


@pytest.mark.parametrize(("architecture", "strategy"), EXACT)
def test_gradients_are_those_of_plain(plain, architecture, strategy):
    gradients, buffers = trained(architecture, strategy)
    expected, expected_buffers = plain[architecture]
    assert difference(gradients, expected) < 1e-9
    moved = {name: each for name, each in buffers.items() if name.rpartition(".")[2] in MOVED}
    assert moved
    once = {name: expected_buffers[name] for name in moved}
    assert difference(moved, once) < 1e-10  # averages and singular vectors moved once


MOVED = ("running_mean", "running_var", "u", "v")


@pytest.mark.parametrize(("architecture", "strategy"), BIASED)
def test_what_is_biased_is_found_to_be(plain, architecture, strategy):
    gradients, _ = trained(architecture, strategy)
    assert 1e-4 < difference(gradients, plain[architecture][0]) < 2


@pytest.mark.parametrize(("architecture", "strategy"), [(LU, "checkpoint+lean"), (LUSER, "recomputed+lean")])
def test_half_precision_costs_lean_layers_no_more_than_autograds(plain, architecture, strategy):
    errors = {}
    for name in ("bf16", f"{strategy}+bf16"):
        gradients, _ = trained(architecture, name, torch.float32)
        assert all(each.dtype is torch.float32 for each in gradients.values())
        whole = torch.cat([each.flatten() for each in gradients.values()]).double()
        expected = torch.cat([each.flatten() for each in plain[architecture][0].values()])
        errors[name] = float((whole - expected).norm() / expected.norm())
    assert 1e-3 < errors[f"{strategy}+bf16"] < 1.1 * errors["bf16"]
