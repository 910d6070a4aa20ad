"""What a step brings to the host is noted in order, as far as it is known."""

import warnings

import pytest
import torch

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import Read, reads_noted


def reads(step, batch=6):
    with warnings.catch_warnings(), on_cuda(), reads_noted() as noted:
        warnings.simplefilter("ignore")
        events_of(lambda batch, device: lambda: step(batch), batch, 1)
    return noted


def bytes_of(*numbers, dtype=torch.int64):
    return torch.tensor(numbers, dtype=dtype).numpy().tobytes()


def on_card(values):
    return torch.tensor(values, device="cuda")


@pytest.mark.parametrize(
    ("step", "noted"),
    [
        (lambda batch: (torch.arange(batch, device="cuda") >= 0).all().item(), [Read(1, b"\1")]),
        (lambda batch: torch.arange(batch, device="cuda").sum().item(), [Read(8, bytes_of(15))]),
        (lambda batch: on_card([1.5, 2.5]).sum().item(), [Read(4, bytes_of(4.0, dtype=torch.float32))]),
        (lambda batch: torch.rand(batch, device="cuda").sum().item(), [Read(4, None)]),
        (lambda batch: torch.rand(batch, device="cuda").cpu(), [Read(24, None)]),
        (lambda batch: bool(torch.rand(batch, device="cuda").isfinite().all()), [Read(1, b"\1")]),
        (lambda batch: torch._is_all_true(torch.rand(batch, device="cuda") > 0).item(), [Read(1, b"\1")]),
        (lambda batch: torch._is_all_true(torch.arange(batch, device="cuda") > 0).item(), [Read(1, b"\0")]),
        (lambda batch: on_card([[1, 2], [3, 4]]).t().cpu(), [Read(32, bytes_of(1, 3, 2, 4))]),
        (lambda batch: torch.equal(on_card([3, 4]), on_card([3, 4])), [Read(1, b"\1")]),
        (lambda batch: torch.equal(on_card([3, 4]), on_card([3])), []),
        (lambda batch: (torch.arange(batch, device="cuda") < 4).nonzero(), [Read(4, b"\4\0\0\0")]),
        (lambda batch: (torch.rand(batch, device="cuda") < 4).nonzero(), [Read(4, b"\6\0\0\0")]),
        (
            lambda batch: on_card([2, 0, 3]).repeat_interleave(on_card([2, 0, 3])),
            [Read(8, bytes_of(5)), Read(1, b"\1")],
        ),
        (lambda batch: on_card([2, 1]).repeat_interleave(on_card([2, 1]), output_size=3), []),
        (lambda batch: torch.empty(0, device="cuda").cpu(), []),
        (lambda batch: torch.arange(batch).sum().item(), []),
    ],
)
def test_reads_are_noted(step, noted):
    assert reads(step) == noted


def test_nothing_is_noted_that_nobody_asked_for():
    def step(batch):
        torch.ones(batch, device="cuda").sum().item()

    with reads_noted() as noted:
        pass
    reads(step)
    assert noted == []


def test_a_large_mask_is_known_too():
    """Of a batch as large as answers are: 200,000 rows of 64 elements."""

    def step(batch):
        mask = (torch.arange(64, device="cuda") % 4 > 0).expand(batch, 64)
        torch.empty(batch, 64, device="cuda")[mask]

    assert reads(step, 200_000) == [Read(4, (200_000 * 48).to_bytes(4, "little"))]
