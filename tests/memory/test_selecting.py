"""Elements selected by value: as many as a known mask tells, else all; temporaries by the virtual card."""

import warnings

import pytest
import torch

from bench.memory.recording.device_sorting import counting_bytes, flagging_bytes
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.recording.values import AssumedValue


def events(step, batch=64):
    """What one call allocates, in bytes, and -k for the free of the k-th last; and what is assumed."""
    with warnings.catch_warnings(record=True) as heard, on_cuda():
        warnings.simplefilter("always")
        recorded = events_of(lambda batch, device: lambda: step(batch), batch, 1)
    keys, told = [], []
    nothing = {event.key for event in recorded if not (event.is_free or event.size_bytes)}
    for event in recorded:
        if event.key in nothing:
            continue
        if event.is_free:
            told.append(keys.index(event.key) - len(keys))
        else:
            keys.append(event.key)
            told.append(event.size_bytes)
    return told, [each.message.what for each in heard if isinstance(each.message, AssumedValue)]


# torch 2.14.1's own CUDA code on the virtual card, an RTX 3080; it selects none.
@pytest.mark.parametrize(
    ("numbers", "counting", "flagging"),
    [(1024, 1, 1023), (4096, 1, 1023), (4097, 8447, 1023), (32768, 8447, 1279), (65536, 8447, 1791)],
)
def test_what_a_card_takes_to_find_places(numbers, counting, flagging):
    assert (counting_bytes(numbers), flagging_bytes(numbers)) == (counting, flagging)

    def step(batch):
        torch.zeros(numbers, dtype=torch.bool, device="cuda").nonzero()

    assert events(step) == ([numbers, 4, counting, -1, flagging, -1, -3, -4], [])


def test_a_mask_that_is_known_selects_what_it_says():
    def step(batch):
        mask = torch.arange(batch, device="cuda") < 48
        return (torch.empty(batch, 3, device="cuda")[mask]).shape

    told, assumed = events(lambda batch: check(step(batch), (48, 3)))
    assert 48 * 8 in told and 48 * 3 * 4 in told
    assert assumed == []


def test_any_other_mask_selects_all():
    def step(batch):
        values = torch.rand(batch, 8, device="cuda")
        check(values[values > 0.5].shape, (batch * 8,))
        check(values.masked_select(values[:, :1] > 0.5).shape, (batch * 8,))
        check((values > 0.5).nonzero().shape, (batch * 8, 2))

    assert events(step)[1] == ["of elements that the step selects by value, all are taken"] * 3


def test_counts_that_are_known_repeat_what_they_say():
    """And take what torch 2.14.1's own CUDA code takes on the virtual card."""

    def step(batch):
        counts = torch.arange(batch, device="cuda") % 3
        check(
            tuple(torch.repeat_interleave(counts).tolist()),
            tuple(place for place in range(64) for _ in range(place % 3)),
        )

    numbers, sums, scan, flags, places = 64 * 8, 64 * 8, 1279, [64, 1], 63 * 8
    told, assumed = events(step)
    assert told == [numbers, numbers, -2, sums, scan, -1, *flags, -2, -1, places, -5, -1, -6] and assumed == []


def test_other_counts_repeat_once_and_a_size_that_is_told_is_believed():
    def step(batch):
        rows, counts = torch.ones(batch, 3, device="cuda"), torch.randint(0, 9, (batch,), device="cuda")
        check(rows.repeat_interleave(counts, 0, output_size=99).shape, (99, 3))
        check(rows.repeat_interleave(counts, 0).shape, (batch, 3))
        check(torch.repeat_interleave(counts[:0]).shape, (0,))

    assert events(step)[1] == ["what the step repeats by value is taken once"]


def test_counts_below_zero_are_refused_as_on_a_card():
    def step(batch):
        torch.repeat_interleave(torch.arange(batch, device="cuda") - 1)

    with pytest.raises(RuntimeError, match="repeats can not be negative"):
        events(step)


def test_gradients_go_where_elements_come_from():
    def step(batch):
        values = torch.ones(batch, 256, device="cuda", requires_grad=True)
        values[torch.ones(batch, dtype=torch.bool, device="cuda")].sum().backward()
        check(values.grad.shape, (batch, 256))

    told, assumed = events(step)
    assert told.count(8 * 64) >= 2  # the places, found again
    assert assumed == []


def test_one_number_is_written_without_looking_for_places():
    def step(batch):
        values = torch.zeros(batch, device="cuda")
        values[torch.rand(batch, device="cuda") > 0.5] = 1.0

    told, assumed = events(step)
    assert 8 * 64 not in told
    assert assumed == []


def test_numbers_that_lie_scattered_are_copied_before_they_are_looked_at():
    def step(batch):
        check(torch.zeros(32, 16, device="cuda").t().nonzero().shape, (0, 2))

    assert events(step) == ([2048, 2048, 4, 1, -1, 1023, -1, -3, -4, -5], [])


def test_outside_a_program_for_a_gpu_it_is_refused():
    def make_step(batch, device):
        return lambda: torch.rand(batch, device=device).nonzero()

    with pytest.raises(NotRecordableError, match="nonzero"):
        events_of(make_step, 2, 1)


def check(shape, expected):
    assert tuple(shape) == expected
