"""How many images of ct lean networks train on 24 GB, by the bound without workspaces, the same on every machine."""

import pytest

from bench import config, strategies
from bench.cells.cell import Cell
from bench.memory import card_of_capacity, largest_batch, record
from bench.memory.trace import Workspace
from bench.stages.memory import bounded_engine

DEFAULT = config.load(config.default_path())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "strategy", "batch"),
    [
        ("LU-DnCNN", "checkpoint+lean-7of8+expandable", 45),
        ("DEQ4IP", "recomputed+lean-third", 79),
        ("LUSER-SW", "recomputed+lean", 103),
    ],
)
def test_batches_at_24_gb(architecture, strategy, batch):
    made, card = strategies.combination(strategy), card_of_capacity("24GB")
    cell = Cell("memory", strategies.named(architecture, made.name), "ct", made.laid_on(DEFAULT), (card,))
    trace = record(cell.workload.for_recording().make_step, cell.memory.steps)
    assert largest_batch(bounded_engine(cell, trace, card, Workspace.LOW)).batch == batch
