"""Forward passes in mixed precision: convolutions, products and their results in half the bytes."""

from functools import partial

import torch

from bench.fitting.changes.change import Change, around_forward
from bench.fitting.observed import Observed


def _refusal(observed: Observed) -> str:
    return "the step enters torch.autocast itself" if observed.autocasts else ""


BF16 = Change(
    "bf16",
    "forward and loss under autocast to bfloat16",
    partial(around_forward, partial(torch.autocast, "cuda", dtype=torch.bfloat16)),
    _refusal,
    gradient="rounded",
)
