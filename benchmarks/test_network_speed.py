"""A training step of each architecture beside plain code for the same equations (straightforward.py): time and peak.

Run with ``pytest benchmarks/test_network_speed.py --benchmark-only -s``. Both start from the same
weights and make as many evaluations. Ours run with their defaults, whose gradient holds one graph per fixed point; the
plain networks hold two, as published. Times are processor time of one thread, which other processes on the machine
disturb least. Peaks are of two steps without data, on a card of 24 GB.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
import straightforward
import torch
from side_by_side import side_by_side
from torch import nn

from bench import models
from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.models.anderson import SolverOptions
from bench.models.architectures.base import ModelOptions
from bench.operators.base import LinearOperator
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon
from bench.units import MiB

OPTIONS = ModelOptions(stages=4, solver=SolverOptions(max_evaluations=10, tolerance=0))
TASKS = {
    "deblurring": lambda: GaussianBlur((3, 64, 64)),
    "ct": lambda: Radon(image_size=64, detectors=93, angles=60),
    "mri": lambda: MRI((2, 64, 64)),
}
PAPERS = ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"]
TIMED_BATCH = 2
PEAK_BATCH = 16


def both(name: str, task: str) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    model = models.get(name)(TASKS[task](), OPTIONS)
    return {"ours": model, "plain": straightforward.twin(model)}


def training_step(network: nn.Module, operator: LinearOperator, batch: int) -> Callable[[], torch.Tensor]:
    """One step of Adam on random images, on the network's device."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, foreach=True)
    device = network.step.device

    def step() -> torch.Tensor:
        images = torch.rand(batch, *operator.image_shape, device=device)
        measurements = torch.rand(batch, *operator.measurement_shape, device=device)
        optimizer.zero_grad(set_to_none=True)
        result = network(measurements)
        loss = (getattr(result, "image", result) - images).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PAPERS)
def test_training_step(benchmark, one_thread, name, task):
    networks = both(name, task)
    operator = networks["ours"].operator
    steps = [training_step(network, operator, TIMED_BATCH) for network in networks.values()]
    ratio = side_by_side(benchmark, *steps, rounds=5, timer=time.process_time)
    print(f"{name} on {task}: time of ours / plain = {ratio}; {benchmark.extra_info}")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PAPERS)
def test_peak(benchmark, name, task):
    networks = both(name, task)
    operator = networks["ours"].operator
    peaks = {}

    def record_both() -> None:
        for kind, network in networks.items():

            def make_step(batch: int, device: torch.device, network: nn.Module = network) -> Callable[[], torch.Tensor]:
                return training_step(copy.deepcopy(network).to(device), operator, batch)

            peaks[kind] = SimulatedEngine(record(make_step), card_of_capacity("24GB")).probe(PEAK_BATCH)

    benchmark.pedantic(record_both, rounds=1)
    for kind in ("allocated", "reserved"):
        ours, plain = (getattr(peak, f"peak_{kind}_bytes") for peak in peaks.values())
        assert 0 < ours <= plain
        benchmark.extra_info[kind] = f"{ours / MiB:.0f} / {plain / MiB:.0f} MiB = {ours / plain:.3f}"
    print(f"{name} on {task}: peak of ours / plain, {benchmark.extra_info}")
