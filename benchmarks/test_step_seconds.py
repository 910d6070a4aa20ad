"""A training step and an evaluation of every cell: what the stage timing measures, for pytest-benchmark's own tools.

Run with ``pytest benchmarks/test_step_seconds.py --benchmark-only --benchmark-json=now.json``, and compare two runs
with ``pytest-benchmark compare``. Sizes are those of the preset demo; `extra_info` names the batch.
"""

from __future__ import annotations

import pytest
import torch

from bench import config
from bench.cells import suite
from bench.cells.cell import Cell

CELLS = suite.cells(config.load(config.default_path(), preset="demo"), stage="timing")


@pytest.fixture(params=CELLS, ids=lambda cell: f"{cell.task}-{cell.architecture}")
def cell(request: pytest.FixtureRequest, benchmark) -> Cell:
    benchmark.group = request.param.task
    benchmark.extra_info |= {"batch": request.param.timing.batch, "preset": request.param.preset}
    return request.param


def test_training_step(benchmark, cell):
    step = cell.workload.make_step(cell.timing.batch, torch.device("cpu"))
    benchmark.pedantic(step, warmup_rounds=1, rounds=5)


def test_evaluation(benchmark, cell):
    model = cell.workload.build(torch.device("cpu")).eval()
    measurement = model.operator(torch.rand(cell.timing.batch, *model.operator.image_shape))
    with torch.no_grad():
        benchmark.pedantic(model, args=(measurement,), warmup_rounds=1, rounds=5)
