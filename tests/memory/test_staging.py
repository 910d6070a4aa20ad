"""What reductions take in a trace: calls of one kernel and of several, on one card and on several."""

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.allocator.caching import FREE
from bench.memory.reductions import Launch, Multiprocessors, Reduction
from bench.memory.staging import DropoutStates, Part, Staged, affine_staged, constant_staged, in_turn
from bench.memory.trace import Event, fitted, freed

H200, T4 = Multiprocessors(132, 2048), Multiprocessors(40, 1024)
SMALL = Reduction((100_000, 96), (96, 1), (True, False), 0, 4, 4, 4)
LARGE = Reduction((1024, 524_289), (1, 1024), (False, True), 1, 4, 4, 4)  # 2 GiB: two kernels
OF_LARGE = (Launch(8_388_608, 128), Launch(8_519_680, 128))


def test_only_the_staging_of_several_kernels_on_one_card_is_taken_in_turn():
    large, small = constant_staged(Staged(LARGE, Part.STAGING)), constant_staged(Staged(SMALL, Part.STAGING))
    assert large.launches_at(1, [H200]) == OF_LARGE
    assert large.launches_at(1, [H200, T4]) == ()
    assert small.launches_at(1, [H200]) == ()
    for part in (Part.PARTIAL, Part.SEMAPHORES):
        assert constant_staged(Staged(LARGE, part)).launches_at(1, [H200]) == ()
    assert DropoutStates().launches_at(1, [H200]) == ()


def test_of_several_cards_and_kernels_the_most_counts():
    sizes = [constant_staged(Staged(LARGE, part)).bytes_at(1, [T4, H200]) for part in Part]
    assert sizes == [0, *OF_LARGE[1]]
    staged = constant_staged(Staged(SMALL, Part.STAGING))
    of_each = [staged.bytes_at(1, [card]) for card in (T4, H200)]
    assert of_each == [3_932_160, 19_218_432]
    assert staged.bytes_at(1, [T4, H200]) == staged.bytes_at(1, [H200, T4]) == max(of_each)
    assert DropoutStates().bytes_at(1, [T4, H200]) == 24 * 132 * 2048


@pytest.mark.parametrize("call", [Staged(LARGE, Part.SEMAPHORES), Staged(SMALL, Part.STAGING), DropoutStates()])
def test_what_was_recorded_at_one_batch_is_the_same_at_every_other(call):
    assert [constant_staged(call).at(batch) for batch in (1, 2, 9)] == [call] * 3


def test_kernels_take_and_give_back_one_after_the_other():
    events = [(0, 7), (1, 30), (2, 8), (3, 5), (2, FREE), (1, FREE), (3, FREE), (0, FREE)]
    launches = {1: (Launch(10, 4), Launch(0, 0), Launch(30, 8))}
    of_each = [(1, 10), (2, 4), (2, FREE), (1, FREE), (1, 30), (2, 8), (2, FREE), (1, FREE)]
    assert list(in_turn(events, launches)) == [(0, 7), *of_each, (3, 5), (3, FREE), (0, FREE)]
    assert list(in_turn(events, {})) == events


def test_the_first_reduction_of_a_trace_may_have_several_kernels():
    def make_step(batch, device):
        rows = torch.empty(batch * 350_000, 1024, device=device)
        return lambda: rows.sum(0)

    events = record(make_step).on(CARDS["H200"]).at(2)
    staged = 179_306_496
    once = [staged, 32, FREE, FREE, staged, 32, FREE, FREE]
    assert [size for _, size in events] == [700_000 * 4096, 4096, *once, FREE, 4096, *once, FREE]


@pytest.mark.parametrize(
    ("other", "part", "is_same"),
    [
        (LARGE._replace(shape=(1026, 524_289), strides=(1, 1026), offset=4), Part.STAGING, True),
        (LARGE, Part.SEMAPHORES, False),
        (LARGE._replace(element_bytes=2), Part.STAGING, False),
        (LARGE._replace(is_reduced=(True, True)), Part.STAGING, False),
        (LARGE._replace(shape=(1024,), strides=(1,)), Part.STAGING, False),
    ],
)
def test_one_allocation_at_two_batches(other, part, is_same):
    one, next_one = Staged(LARGE, Part.STAGING), Staged(other, part)
    found = affine_staged(one, next_one, 5)
    assert (found is not None) is is_same
    if found:
        assert [found.at(5), found.at(6)] == [one, next_one]
        assert found.at(7).reduction == LARGE._replace(shape=(1028, 524_289), strides=(1, 1028), offset=7)


def test_random_states_are_of_the_same_call_where_they_are_alike():
    states, others = DropoutStates(), DropoutStates(48)
    assert affine_staged(states, states, 2) == states
    assert affine_staged(states, others, 2) is affine_staged(states, Staged(SMALL, Part.STAGING), 2) is None


def test_sizes_are_fitted_through_three_batches():
    def events(batch):
        return [Event(0, 5 * batch**2 + 3 * batch + 7, False, "a"), Event(1, 11 * batch, False, "b"), freed(0)]

    trace = fitted(2, [events(batch) for batch in (2, 3, 4)])
    for batch in (1, 2, 3, 4, 9, 100):
        assert trace.sizes(batch).tolist() == [event.size_bytes for event in events(batch)]
    assert (trace.base.tolist(), trace.slope.tolist(), trace.curve.tolist()) == ([7, 0, 0], [3, 11, 0], [5, 0, 0])


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_what_reduces_at_one_batch_alone_is_no_reduction_of_the_trace(which):
    plain = Event(0, 0, False, "a")
    staged = plain._replace(staged=Staged(SMALL, Part.STAGING))
    trace = fitted(2, [[staged if batch in which else plain] for batch in (0, 1)])
    assert trace.staged.tolist() == [0 if len(which) == 2 else -1]
    assert len(trace.reductions) == (len(which) == 2)
