"""At which batches a step is recorded as it is, and how often: steps of one allocation, cards of a few MiB."""

import pytest
import torch

from bench.memory import Card, NotRecordableError, SimulatedEngine, record
from bench.memory.checked import CheckedStep, check_at
from bench.memory.recording.refusals import FailsAtBatchError
from bench.memory.search import LARGEST_BATCH
from bench.units import MiB


class Counted:
    """A make_step whose steps allocate `bytes_of(batch)`, and that notes every batch it is made for."""

    def __init__(self, bytes_of):
        self.batches = []
        self._bytes_of = bytes_of

    def __call__(self, batch, device):
        self.batches.append(batch)
        return lambda: torch.empty(self._bytes_of(batch), dtype=torch.uint8, device=device)


def card(mebibytes):
    return Card("made up", mebibytes * MiB, 0, None, None, "")


def searched(bytes_of, mebibytes, before=()):
    """The step, its answer, and the batches that were recorded for it."""
    make_step = Counted(bytes_of)
    step = CheckedStep(make_step)
    for batch in before:
        step.holds_at(batch)
    make_step.batches.clear()
    found = step.largest_batch(lambda trace: SimulatedEngine(trace, card(mebibytes)))
    return step, found.batch, make_step.batches


def twenty_each(batch):
    return 20 * batch * MiB


def above(limit, mebibytes_of):
    """20 MiB each up to a batch, and so many beyond."""
    return lambda batch: twenty_each(batch) if batch <= limit else mebibytes_of(batch) * MiB


@pytest.mark.parametrize(
    ("mebibytes", "answer", "recorded"),
    [
        (640, 32, [32, 33]),
        (639, 31, [31, 32]),
        (59, 2, [2, 3]),
        (20, 1, [1, 2]),
        (19, 0, [1]),
        (2**25, LARGEST_BATCH, []),
    ],
)
def test_where_a_fit_holds_its_answer_and_the_next_batch_are_recorded(mebibytes, answer, recorded):
    step, found, batches = searched(twenty_each, mebibytes)
    assert (found, batches) == (answer, recorded)
    assert step.is_fitted
    batches.clear()
    step.largest_batch(lambda trace: SimulatedEngine(trace, card(mebibytes)))
    assert batches == []  # each once


@pytest.mark.parametrize(
    ("mebibytes_of", "limit", "card_mebibytes", "before", "answer", "recorded"),
    [
        # 640 MiB beyond the card at 32, the fit's answer: lines through 16 and 32, 21 and 32, 16 and 21.
        (lambda batch: 40 * batch, 16, 640, (), 16, [32, 33, 16, 21, 19, 18, 17]),
        # As far from it as four images of 1/32 of the card each, and the search starts at 32; farther, and it does not.
        (lambda batch: 20 * batch + 80, 31, 640, (), 31, [32, 33, 31]),
        (lambda batch: 20 * batch + 100, 31, 640, (), 31, [32, 33, 16, 28, 29, 30, 31]),
        # What is left of the card counts as what lacks.
        (lambda batch: 20 * batch - 80, 31, 640, (), 36, [32, 33, 35, 39, 37, 36, 38]),
        (lambda batch: 20 * batch - 100, 31, 640, (), 37, [32, 33, 16, 39, 37, 38]),
        # 128 by the fit: no line begins beyond 64.
        (lambda batch: 40 * batch, 50, 2560, (), 64, [128, 129, 64, 32, 65, 66]),
        # Known before not to hold: the search starts at 2.
        (lambda batch: 40 * batch, 16, 640, (17,), 16, [2, 1, 32, 16, 21, 19, 18]),
    ],
)
def test_where_a_fit_does_not_hold_batches_are_recorded(mebibytes_of, limit, card_mebibytes, before, answer, recorded):
    bytes_of = above(limit, mebibytes_of)
    _, found, batches = searched(bytes_of, card_mebibytes, before)
    assert found == answer == max(batch for batch in range(1, 200) if bytes_of(batch) <= card_mebibytes * MiB)
    assert batches == recorded


def several(batch, device):
    """One tensor of 40 MiB for every two samples, so that no trace describes it; one sample is no batch."""
    if batch < 2:
        raise ValueError("one sample has no variance")

    def step():
        return [torch.empty(40 * MiB, dtype=torch.uint8, device=device) for _ in range(-(-batch // 2))]

    return step


@pytest.mark.parametrize(
    ("mebibytes", "answer", "recorded"),
    [
        (640, 32, [2, 1, 4, 32, 33, 34]),
        (639, 30, [2, 1, 4, 31, 30, 32]),
        (40, 2, [2, 1, 4, 3]),
        (39, 0, [2, 1, 4]),
    ],
)
def test_a_step_that_no_trace_describes_is_recorded_at_each_batch(mebibytes, answer, recorded):
    batches = []

    def make_step(batch, device):
        batches.append(batch)
        return several(batch, device)

    step = CheckedStep(make_step)
    assert not step.is_fitted
    assert step.trace.impossible == {}
    batches.clear()
    assert step.largest_batch(lambda trace: SimulatedEngine(trace, card(mebibytes))).batch == answer
    assert batches == recorded
    assert "no variance" in step.trace.impossible[1]


def test_a_batch_that_fails_is_not_tried_again():
    make_step = Counted(twenty_each)
    step = CheckedStep(make_step)
    step.trace.impossible[7] = "so it was said"
    make_step.batches.clear()
    with pytest.raises(FailsAtBatchError, match="so it was said"):
        step.holds_at(7)
    assert make_step.batches == []


def test_a_step_of_one_size_is_recorded_at_64_before_it_is_refused():
    make_step = Counted(lambda batch: MiB)
    with pytest.raises(NotRecordableError, match="nothing that the step allocates on `device` grows with the batch"):
        CheckedStep(make_step)
    assert make_step.batches[-1] == 64
    assert CheckedStep(Counted(lambda batch: MiB if batch < 64 else 2 * MiB)).is_fitted


def keeping(sizes_of):
    """A make_step that keeps, at its n-th call, tensors of so many bytes, and lets go of one of 5,000 each time."""

    def make_step(batch, device):
        kept = []

        def step():
            torch.empty(5000, dtype=torch.uint8, device=device)
            kept.append([torch.empty(size, dtype=torch.uint8, device=device) for size in sizes_of(len(kept))])
            torch.empty(batch, dtype=torch.uint8, device=device)

        return step

    return make_step


@pytest.mark.parametrize(
    ("sizes_of", "says"),
    [
        (
            lambda call: [100, 300, 200],
            r"keeps 600 bytes more each time .*: aten\.empty\S* allocates 300 of them at \S",
        ),
        (lambda call: [int(call == 2)], r"keeps 0 bytes more each time .*: aten\.empty\S* allocates 1 of them at \S"),
    ],
)
def test_of_what_a_step_keeps_the_largest_is_named_not_what_it_lets_go(sizes_of, says):
    with pytest.raises(NotRecordableError, match=says):
        CheckedStep(keeping(sizes_of))


def test_what_is_kept_is_named_without_a_line_where_the_step_is_another_each_time():
    made = []

    def make_step(batch, device):
        made.append(batch)
        if len(made) > 4:
            return lambda: torch.empty(7 * len(made), device=device)
        return keeping(lambda call: [100])(batch, device)

    with pytest.raises(NotRecordableError, match=r"allocates 100 of them\. If that comes to an end"):
        CheckedStep(make_step)


def test_another_order_of_frees_is_told():
    def make_step(batch, device):
        def step():
            one, other = (torch.empty(batch, device=device) for _ in range(2))
            if batch == 9:
                del other, one
            else:
                del one, other

        return step

    trace = record(make_step)
    check_at(make_step, trace, [8, 10])
    with pytest.raises(
        NotRecordableError, match="another at batch 9 than at batches 2 and 3: it frees in another order"
    ):
        check_at(make_step, trace, [9])
