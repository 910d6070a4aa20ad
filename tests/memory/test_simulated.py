"""The engine without a GPU: traces small enough to know the answer by hand."""

import pytest
import torch

from bench.memory import SimulatedEngine, card_of_capacity, largest_batch, record
from bench.memory.gpus import CARDS, card_named
from bench.memory.trace import Workspace
from bench.units import GiB, MiB


def one_tensor_per_image(mebibytes):
    def make_step(batch, device):
        return lambda: torch.empty(batch, mebibytes * MiB, dtype=torch.uint8, device=device)

    return record(make_step)


def test_the_edge_is_where_the_card_is_full():
    """One tensor of 100 MiB per image: its segment is rounded to 2 MiB, the usable memory is 7,692 MiB."""
    engine = SimulatedEngine(one_tensor_per_image(100), card_of_capacity("8GB"))
    assert engine.card.usable_bytes == 8 * GiB - 500 * MiB
    assert engine.guess() == 76
    boundary = largest_batch(engine)
    assert boundary.batch == 76
    assert boundary.at_edge.peak_reserved_bytes == 7600 * MiB
    assert boundary.at_edge.retries == 0  # the second step's tensor takes the first one's segment again


def test_a_step_that_does_not_grow_with_the_batch_has_no_edge():
    def make_step(batch, device):
        return lambda: torch.empty(1000, device=device)

    boundary = largest_batch(SimulatedEngine(record(make_step), card_of_capacity("8GB")))
    assert boundary.batch == 2**20


def test_workspaces_count_in_the_high_bound_only():
    def make_step(batch, device):
        weight = torch.zeros(64, 64, 3, 3, device=device)
        return lambda: torch.nn.functional.conv2d(torch.zeros(batch, 64, 256, 256, device=device), weight, padding=1)

    trace = record(make_step)
    image = 16 * MiB
    assert trace.peak_bytes_per_image(8, Workspace.LOW) == 2 * image
    assert trace.peak_bytes_per_image(8, Workspace.HIGH) == 4 * image
    card = card_of_capacity("8GB")
    low, high = (largest_batch(SimulatedEngine(trace, card, w)).batch for w in (Workspace.LOW, Workspace.HIGH))
    assert low > high > 0


def test_cards():
    assert card_named("rtx 3080") is CARDS["RTX 3080"]
    for card in CARDS.values():
        assert 0 < card.usable_bytes < card.total_bytes
        assert card.source
    with pytest.raises(ValueError, match=r"unknown card 'GTX 1': known cards are RTX 2080, .*gpu-cap 8GB"):
        card_named("GTX 1")
    with pytest.raises(ValueError, match=r"a cap of 500MiB leaves nothing to train in"):
        card_of_capacity("500MiB")
