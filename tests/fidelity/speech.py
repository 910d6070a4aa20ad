"""Steps with a CTC loss, in the forms that PyTorch's own kernels take; they say "cuda" themselves."""

from functools import partial

import torch
from torch.nn import functional

FRAMES, CLASSES, LONGEST = 50, 29, 12


def trained(make_loss, batch, device):
    """One training step of a linear map to scores, [FRAMES, batch, CLASSES], and a loss of these."""
    weights = torch.rand(8, CLASSES, device="cuda", requires_grad=True)

    def step():
        scores = (torch.rand(FRAMES, batch, 8, device="cuda") @ weights).log_softmax(-1)
        weights.grad = None
        make_loss(scores, batch).backward()

    return step


def padded(scores, batch):
    """Lengths on the host; the longest target is shorter than the room for it."""
    targets = torch.ones(batch, LONGEST, dtype=torch.long, device="cuda")
    return functional.ctc_loss(scores, targets, torch.full((batch,), FRAMES), torch.full((batch,), LONGEST - 2))


def lists(scores, batch):
    """Lengths as numbers, infinite losses left out, and the sum."""
    targets = torch.ones(batch, LONGEST, dtype=torch.long, device="cuda")
    lengths = (FRAMES,) * batch, (LONGEST,) * batch
    return functional.ctc_loss(scores, targets, *lengths, zero_infinity=True, reduction="sum")


def in_one_row(scores, batch):
    """Targets one after the other, each loss for itself."""
    targets = torch.ones(batch * LONGEST, dtype=torch.int32, device="cuda")
    lengths = torch.full((batch,), FRAMES), torch.tensor([LONGEST - 1, LONGEST + 1] * (batch // 2))
    return functional.ctc_loss(scores, targets, *lengths, reduction="none").mean()


def lengths_on_the_card(scores, batch):
    """They are read."""
    targets = torch.ones(batch, LONGEST, dtype=torch.long, device="cuda")
    lengths = torch.full((batch,), FRAMES, device="cuda"), torch.full((batch,), LONGEST - 3, device="cuda")
    return functional.ctc_loss(scores, targets, *lengths)


LOSSES = (padded, lists, in_one_row, lengths_on_the_card)
STEPS = {make_loss.__name__: partial(trained, make_loss) for make_loss in LOSSES}
