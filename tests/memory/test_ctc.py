"""What of the CTC loss is refused in a recording: bfloat16, as PyTorch does, and what cuDNN computes on a card."""

import pytest
import torch
from torch.nn import functional

from bench.memory import CARDS
from bench.memory.recording import NotRecordableError
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import AssumedValue

FRAMES, BATCH, LETTERS = 50, 2, 12


def recorded(dtype=torch.float32, targets_dtype=torch.int32, targets_on="cpu", lengths_dtype=None, frames=FRAMES):
    """The events of one loss; lengths are numbers if they have no type."""

    def make_step(batch, device):
        def step():
            scores = torch.zeros(FRAMES, batch, 29, dtype=dtype, device="cuda")
            targets = torch.ones(batch * LETTERS, dtype=targets_dtype, device=targets_on)
            lengths = [frames] * batch, [LETTERS] * batch
            if lengths_dtype:
                lengths = [torch.tensor(each, dtype=lengths_dtype) for each in lengths]
            functional.ctc_loss(scores, targets, *lengths)

        return step

    with on_cuda(CARDS["RTX 3080"]):
        return events_of(make_step, BATCH, 1)


@pytest.mark.parametrize(
    ("targets_on", "lengths_dtype"),
    [("cpu", None), ("cpu", torch.int64), ("cpu", torch.int32), ("cuda", torch.int32)],
)
def test_what_cudnn_computes_is_refused(targets_on, lengths_dtype):
    with pytest.raises(NotRecordableError, match="cuDNN computes this CTC loss"):
        recorded(targets_on=targets_on, lengths_dtype=lengths_dtype)


@pytest.mark.parametrize(
    "others",
    [
        {"targets_dtype": torch.int64},
        {"targets_on": "cuda"},
        {"targets_on": "cuda", "lengths_dtype": torch.int64},
        {"frames": FRAMES - 1},
        {"dtype": torch.float64},
    ],
)
def test_what_pytorch_computes_itself_is_recorded(others):
    table = BATCH * FRAMES * (2 * LETTERS + 1) * (8 if "dtype" in others else 4)
    assert table in [event.size_bytes for event in recorded(**others) if hasattr(event, "size_bytes")]


@pytest.mark.parametrize(
    ("batch", "blanks"),
    [(15, []), (16, []), (64, [665_600, 51_200, 51_200, 12_800, 665_600, 51_200])],  # 2 T + 2.4 B > 450, or not
)
def test_the_gradient_of_long_sequences_begins_with_the_blanks(batch, blanks):
    """What the virtual RTX 3080 allocates with torch 2.14.1, after backward variables and gradient."""

    def make_step(batch, device):
        scores = torch.zeros(200, batch, 29, device="cuda", requires_grad=True)
        targets = torch.ones(batch, 12, dtype=torch.int64, device="cuda")
        lengths = torch.full((batch,), 200), torch.full((batch,), 12)
        return lambda: functional.ctc_loss(scores, targets, *lengths).backward()

    with on_cuda(CARDS["RTX 3080"]):
        events = events_of(make_step, batch, 1)
    sizes = [e.size_bytes for e in events if "_ctc_loss_backward" in e.op and not e.is_free]
    assert sizes == [*[8 * batch] * 3, batch * 200 * 25 * 4, batch * 200 * 29 * 4, *blanks]


def of_lengths(frames, letters, blank=0):
    """Whether losses of these lengths are recorded: targets in one row on the host, of type int32."""

    def make_step(batch, device):
        def step():
            scores = torch.zeros(300, len(frames), 29, device="cuda")
            functional.ctc_loss(scores, torch.ones(sum(letters), dtype=torch.int32), frames, letters, blank)

        return step

    with on_cuda(CARDS["RTX 3080"]):
        return bool(events_of(make_step, BATCH, 1))


@pytest.mark.parametrize("letters", [[255, 12], [12, 255]])
def test_targets_of_at_most_255_letters_are_cudnns(letters):
    with pytest.raises(NotRecordableError, match="cuDNN computes this CTC loss"):
        of_lengths([300, 300], letters)


@pytest.mark.parametrize(
    ("frames", "letters", "blank"),
    [([300, 300], [256, 12], 0), ([300, 300], [12, 256], 0), ([300, 299], [12, 12], 0), ([300, 300], [12, 12], 1)],
)
def test_longer_targets_other_blanks_and_other_lengths_are_pytorchs(frames, letters, blank):
    assert of_lengths(frames, letters, blank)


@pytest.mark.parametrize(("letters", "frames"), [(20, 20), (20, 21), (21, 20)])
def test_a_target_is_at_most_as_long_as_its_frames_for_cudnn(letters, frames):
    """Lengths that lie on the card, which is asked whatever the frames of the scores are."""

    def make_step(batch, device):
        def step():
            scores = torch.zeros(30, 1, 29, device="cuda")
            lengths = (torch.tensor([each], dtype=torch.int32) for each in (frames, letters))
            functional.ctc_loss(scores, torch.ones(letters, dtype=torch.int32, device="cuda"), *lengths)

        return step

    with on_cuda(CARDS["RTX 3080"]):
        if letters > frames:
            assert events_of(make_step, BATCH, 1)
        else:
            with pytest.raises(NotRecordableError):
                events_of(make_step, BATCH, 1)


def test_of_lengths_that_nobody_knows_the_table_has_room_for_all():
    """Of 7 targets in rows of 12 letters."""

    def make_step(batch, device):
        def step():
            scores = torch.zeros(FRAMES, 7, 29, device="cuda")
            lengths = torch.randint(9, (7,), device="cuda")
            functional.ctc_loss(scores, torch.ones(7, 12, dtype=torch.int64, device="cuda"), lengths, lengths)

        return step

    with on_cuda(CARDS["RTX 3080"]), pytest.warns(AssumedValue):
        sizes = [event.size_bytes for event in events_of(make_step, BATCH, 1)]
    assert 7 * FRAMES * (2 * 12 + 1) * 4 in sizes


def test_bfloat16_is_refused_as_pytorch_does():
    with pytest.raises(NotImplementedError, match="not implemented for 'BFloat16'"):
        recorded(torch.bfloat16, targets_dtype=torch.int64)


def test_scores_of_samples_whose_frames_come_first():
    """Their gradient is contiguous, whatever lies under it: torch 2.14.1 on the virtual card, step by step."""

    def make_step(batch, device):
        scores = torch.zeros(batch, FRAMES, 29, device="cuda", requires_grad=True)

        def step():
            scores.grad = None
            frames_first = scores.log_softmax(-1).transpose(0, 1)
            targets = torch.ones(batch, LETTERS, dtype=torch.int64, device="cuda")
            functional.ctc_loss(frames_first, targets, [FRAMES] * batch, [LETTERS] * batch).backward()
            assert scores.grad.stride() == (FRAMES * 29, 29, 1)

        return step

    with on_cuda(CARDS["RTX 3080"]):
        events = events_of(make_step, BATCH, 2)
    of_scores = BATCH * FRAMES * 29 * 4
    assert [event.size_bytes for event in events].count(of_scores) == 1 + 2 * 4
