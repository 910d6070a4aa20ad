"""The engine without a GPU: traces small enough to know the answer by hand."""

import pytest
import torch

from bench.memory import Probe, SimulatedEngine, card_of_capacity, largest_batch, record
from bench.memory.allocator.caching import CachingAllocator
from bench.memory.allocator.history import Action
from bench.memory.gpus import CARDS, Card, card_named
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


def test_a_card_that_is_full_to_the_byte_is_not_too_small():
    trace = one_tensor_per_image(100)
    exact, less = (Card("made up", 7600 * MiB - short, 0, None, None, "") for short in (0, 1))
    assert largest_batch(SimulatedEngine(trace, exact)).batch == 76
    assert largest_batch(SimulatedEngine(trace, less)).batch == 75


def test_without_a_limit_everything_fits_and_the_engine_keeps_its_card():
    engine = SimulatedEngine(one_tensor_per_image(100), card_of_capacity("8GB"))
    unlimited = engine.without_limit()
    assert engine.probe(77) == Probe(77, False, 0, 0, 0)
    assert unlimited.probe(1000).peak_reserved_bytes == 100_000 * MiB
    assert engine.card.usable_bytes == 8 * GiB - 500 * MiB


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
    assert {card.name for card in CARDS.values() if card.cublas_workspace_config == ":4096:8"} == {
        *("H200", "H100 SXM", "H100 PCIe"),
        *("RTX 5060", "RTX 5060 Ti 8GB", "RTX 5060 Ti 16GB", "RTX 5070", "RTX 5070 Ti", "RTX 5080", "RTX 5090"),
    }
    assert CARDS["RTX 5090"].cublas_workspace_bytes == 4096 * 8 * 1024  # as PyTorch writes it
    assert CARDS["RTX 3080"].cublas_workspace_bytes == 4096 * 1024 * 2 + 16 * 1024 * 8
    for card in CARDS.values():
        assert 0 < card.usable_bytes < card.total_bytes
        assert card.source
    with pytest.raises(ValueError, match=r"a cap of 500MiB leaves nothing to train in"):
        card_of_capacity("500MiB")


class Workspaces:
    """Every convolution has the same candidates."""

    cudnn_version = "none"
    is_exact = True
    cards = ()

    def __init__(self, *sizes):
        self.sizes = sizes

    def candidates(self, call):
        return self.sizes


def one_convolution():
    """Image and output take 16 MiB each per image; both live while the workspace does."""

    def make_step(batch, device):
        weight = torch.zeros(64, 64, 3, 3, device=device)
        return lambda: torch.nn.functional.conv2d(torch.zeros(batch, 64, 256, 256, device=device), weight, padding=1)

    return record(make_step)


def test_the_first_configuration_that_fits_runs():
    trace, card = one_convolution(), card_of_capacity("1GB")  # 524 MiB usable
    engine = SimulatedEngine(trace, card, workspaces=Workspaces(200 * MiB, 100 * MiB, 0))
    small, middle, large = engine.probe(8), engine.probe(12), engine.probe(15)
    assert small.peak_allocated_bytes == (2 * 8 * 16 + 200) * MiB + 147456
    assert middle.peak_allocated_bytes == (2 * 12 * 16 + 100) * MiB + 147456
    assert large.peak_allocated_bytes == 2 * 15 * 16 * MiB + 147456
    # Passed over in the first step; in the second the remembered configuration is tried first.
    assert [probe.fallbacks for probe in (small, middle, large)] == [0, 1, 2]
    assert small.fits and middle.fits and large.fits
    assert not engine.probe(17).fits


class RunAgain(torch.autograd.Function):
    """A convolution that runs once more in the backward pass, as a checkpoint's does."""

    @staticmethod
    def forward(ctx, image, weight):
        ctx.save_for_backward(image, weight)
        return torch.nn.functional.conv2d(image, weight, padding=1)

    @staticmethod
    def backward(ctx, gradient):
        torch.nn.functional.conv2d(*ctx.saved_tensors, padding=1)
        return gradient, None


def test_each_thread_remembers_its_own_configuration():
    """A tensor beside the forward pass leaves no room for the first choice there; in the backward pass it is gone."""

    def make_step(batch, device):
        weight = torch.zeros(64, 64, 3, 3, device=device)

        def step():
            image = torch.zeros(batch, 64, 256, 256, device=device, requires_grad=True)
            beside = torch.empty(batch, 60 * MiB, dtype=torch.uint8, device=device)
            total = RunAgain.apply(image, weight).sum()
            del beside
            total.backward()

        return step

    engine = SimulatedEngine(record(make_step), card_of_capacity("1GB"), workspaces=Workspaces(200 * MiB, 0))
    history = []
    allocator = CachingAllocator(engine.card.usable_bytes, config=engine.config, observer=history.append)
    result, fallbacks = engine.replay(4, allocator)
    assert result.fits
    assert fallbacks == 1  # in the first step's forward pass; the second one remembers
    taken = [entry for entry in history if entry.action is Action.ALLOC and entry.size_bytes == 200 * MiB]
    assert len(taken) == 2  # in both backward passes


def test_an_unknown_convolution_has_its_bound():
    trace, card = one_convolution(), card_of_capacity("8GB")
    unknown = SimulatedEngine(trace, card, workspaces=Workspaces())
    assert unknown.probe(5) == SimulatedEngine(trace, card, Workspace.HIGH).probe(5)


def test_workspaces_are_known_where_every_call_has_candidates_or_nothing_is_replayed():
    trace, card = one_convolution(), card_of_capacity("1GB")  # 16 images fit beside their outputs
    known, unknown = (SimulatedEngine(trace, card, workspaces=Workspaces(*sizes)) for sizes in ((0,), ()))
    assert [known.knows_workspaces(batch) for batch in (16, 17)] == [True, True]
    assert [unknown.knows_workspaces(batch) for batch in (16, 17)] == [False, True]
    known.workspaces.is_exact = False
    assert not known.knows_workspaces(17)
    assert not SimulatedEngine(trace, card).knows_workspaces(17)
