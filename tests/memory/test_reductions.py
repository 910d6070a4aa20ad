"""What reductions take, against hundreds of calls that the virtual card answered, and cases of real cards."""

import json
import lzma
import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, SimulatedEngine, card_of_capacity, record
from bench.memory.allocator.caching import FREE
from bench.memory.cudnn.envelope import Envelope, stands_for
from bench.memory.reductions import Launch, Multiprocessors, Reduction, Staging, staging
from bench.memory.trace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.calls import AllCalls, by_call
from fidelity.reductions import CALLS

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "reductions-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))
H200 = Multiprocessors(132, 2048)


@pytest.fixture(scope="module")
def trace():
    return record(AllCalls(CALLS))


@pytest.mark.parametrize("name", ANSWERS)
def test_every_call_takes_what_it_takes_on_the_virtual_card(trace, name):
    recorded = by_call(trace.on(CARDS[name]).at(1, Workspace.LOW))[: len(CALLS)]
    assert len(recorded) == len(ANSWERS[name]) == len(CALLS) > 500
    wrong = [
        (call, took, found) for call, took, found in zip(CALLS, recorded, ANSWERS[name], strict=True) if took != found
    ]
    assert not wrong
    assert sum(len(found) > 4 for found in ANSWERS[name]) > 200  # more than a result: most calls are staged


# Rows of numbers in float32, of which each column lies together; published histories of cards with 132 multiprocessors
# of 2,048 threads have these blocks.
@pytest.mark.parametrize(
    ("shape", "strides", "is_reduced", "partial_bytes", "taken"),
    [
        ((2048, 10_000), (1, 2048), (False, True), 16, Launch(553_648_128, 64)),
        ((512, 10_000), (1, 512), (False, True), 16, Launch(164_626_432, 16)),
        ((4, 512, 2560), (512 * 2560, 2560, 1), (True, True, False), 4, Launch(41_943_040, 80)),
    ],
)
def test_real_cards_took_as_much(shape, strides, is_reduced, partial_bytes, taken):
    reduction = Reduction(shape, strides, is_reduced, 0, 4, 4, partial_bytes)
    assert staging(reduction, H200).launches == (taken,)


def test_nothing_is_staged_where_a_block_is_enough():
    assert staging(Reduction((2048, 255), (255, 1), (False, True), 0, 4, 4, 4), H200) == Staging(0, ())
    assert staging(Reduction((0, 10_000), (1, 1), (False, True), 0, 4, 4, 4), H200) == Staging(0, ())
    assert staging(Reduction((), (), (), 0, 4, 4, 4), H200).most == Launch(0, 0)


@pytest.mark.parametrize(
    ("result_bytes", "partial_bytes", "in_result", "kept_bytes"),
    [  # of 1024 results; AccumulationBuffer in Reduce.cuh
        (4, 4, True, 0),
        (4, 16, True, 0),
        (4, 16, False, 1024 * 16),
        (1, 8, False, 1024 * 8),
        (4, 4, False, 0),  # a result that is wide enough is used again
        (16, 4, False, 0),
    ],
)
def test_partial_results_of_several_kernels_are_kept_where_the_result_cannot(
    result_bytes, partial_bytes, in_result, kept_bytes
):
    shape = (700_000, 1024)  # 2.7 GiB: two kernels
    call = Reduction(shape, (1024, 1), (True, False), 0, 4, result_bytes, partial_bytes, in_result=in_result)
    launch = Launch(179_306_496 // 4 * partial_bytes, 32)
    assert staging(call, H200) == Staging(kept_bytes, (launch, launch))


def test_of_kernels_that_are_not_alike_the_largest_counts():
    call = Reduction((1024, 524_289), (1, 1024), (False, True), 1, 4, 4, 4)
    assert staging(call, H200).launches == (Launch(8_388_608, 128), Launch(8_519_680, 128))
    assert staging(call, H200).most == Launch(8_519_680, 128)


class Step:
    """Sums rows of numbers over the batch, as for the gradient of a weight."""

    def __call__(self, batch, device):
        rows = torch.empty(batch, 64, 2560, device=device)
        return lambda: rows.sum((0, 1))


def taken(trace, card, batch, bound):
    """What the reduction of the first step takes beside the rows and its result."""
    rows, result, *sizes = [size for _, size in trace.on(card).at(batch, bound) if size not in (0, FREE)]
    assert (rows, result) == (batch * 64 * 2560 * 4, 2560 * 4)
    return sizes[: len(sizes) // 2]


def test_what_is_taken_follows_batch_and_card():
    trace = record(Step())
    for batch in (1, 2, 7, 300, 2048):
        shape = (batch, 64, 2560)
        reduction = Reduction(shape, (64 * 2560, 2560, 1), (True, True, False), 0, 4, 4, 4)
        for name in ("RTX 3080", "T4", "H200", "RTX 4090"):
            card = CARDS[name]
            most = staging(reduction, Multiprocessors(*card.multiprocessors_and_threads)).most
            for bound in Workspace:
                assert taken(trace, card, batch, bound) == [size for size in most if size]
    assert staging(reduction, H200).most.staging_bytes > 0


def test_where_an_input_begins_follows_the_batch():
    """Results are made four at a time where the first number is at a multiple of four."""

    def make_step(batch, device):
        numbers = torch.empty(batch + 8192 * 96, device=device)
        return lambda: numbers[batch:].view(8192, 96).sum(0)

    trace, card = record(make_step), CARDS["RTX 3080"]
    found = set()
    for batch in (4, 5, 6, 400, 401):
        reduction = Reduction((8192, 96), (96, 1), (True, False), batch, 4, 4, 4)
        most = staging(reduction, Multiprocessors(*card.multiprocessors_and_threads)).most
        sizes = [size for _, size in trace.on(card).at(batch, Workspace.LOW) if size not in (0, FREE)]
        assert sizes[2:4] == list(most)
        found.add(most)
    assert len(found) > 1


def test_a_capacity_takes_the_most_of_its_cards_or_nothing():
    trace = record(Step())
    card = card_of_capacity("24GB")
    assert taken(trace, card, 32, Workspace.HIGH) == []
    engine = SimulatedEngine(trace, card, workspaces=Envelope(card))
    held = 32 * 64 * 2560 * 4 + 2560 * 4
    each = [max(taken(trace, known, 32, Workspace.LOW)) for known in stands_for(card)]
    assert len(set(each)) > 1
    assert engine.probe(32).peak_allocated_bytes == held + max(each) + 512  # semaphores
    low = SimulatedEngine(trace, card, Workspace.LOW)
    assert low.probe(32).peak_allocated_bytes == held
