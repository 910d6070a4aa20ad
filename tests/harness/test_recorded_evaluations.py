"""A solve recorded with few evaluations has the memory of one with all of them.

Once Anderson's history is full, every evaluation allocates and frees the same again. Here the default suite's
recordings are held against recordings of all 50 evaluations: same largest batches, same reserved peaks.
"""

import pytest

from bench import config
from bench.cells import suite
from bench.memory import SimulatedEngine, card_of_capacity, largest_batch, record
from bench.memory.trace import Workspace

CELLS = [cell for cell in suite.cells(config.load(config.default_path())) if cell.architecture != "LU-DnCNN"]


def edges(workload):
    trace = record(workload.make_step)
    engines = [
        SimulatedEngine(trace, card_of_capacity(cap), workspace) for cap in ("8GB", "24GB") for workspace in Workspace
    ]
    return [(boundary.batch, boundary.at_edge) for boundary in map(largest_batch, engines)]


def check(cell):
    every = cell.workload.options.solver.max_evaluations
    short = cell.workload.for_recording()
    assert short.options.solver.max_evaluations < every
    assert edges(short) == edges(cell.workload.with_evaluations(every, every))


def test_deq4ip_on_deblurring():
    check(next(cell for cell in CELLS if cell.architecture == "DEQ4IP" and cell.task == "deblurring"))


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.architecture}-{cell.task}")
def test_every_cell(cell):
    check(cell)
