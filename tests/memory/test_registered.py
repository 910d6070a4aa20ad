"""Kernels that a recording registers are there while it lasts, and not after it."""

import pytest
import torch

from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

KERNELS = {
    "one_hot": "AutogradMeta",
    "dropout": "AutogradMeta",
    "softmax.int": "AutogradMeta",
    "log_softmax.int": "AutogradMeta",
    "batch_norm": "AutogradMeta",
    "cumprod_backward": "AutogradMeta",
    "_convolution_double_backward": "AutogradMeta",
    "scaled_dot_product_attention": "AutogradMeta",
    "ctc_loss.IntList": "AutogradMeta",
    "_ctc_loss": "Meta",
    "_fused_rms_norm": "Meta",
    "mish_backward": "Meta",
}


def registered():
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return {name for name, key in KERNELS.items() if has(f"aten::{name}", key)}


def test_kernels_are_registered_for_a_recording_alone():
    before = registered()
    seen = []
    for _ in range(2):
        with on_cuda():
            events_of(lambda batch, device: lambda: seen.append(registered()), 1, 1)
    assert seen == [set(KERNELS)] * 2
    assert registered() == before and not before & {"one_hot", "dropout", "batch_norm", "scaled_dot_product_attention"}


@pytest.mark.parametrize(("p", "trains"), [(0.0, True), (0.5, False), (0.0, False), (1.0, True)])
def test_dropout_that_draws_nothing_gives_a_tensor(p, trains):
    shapes = []

    def step():
        shapes.append(torch.dropout(torch.empty(4, 5, device="cuda"), p, trains).shape)

    with on_cuda():
        events_of(lambda batch, device: step, 1, 1)
    assert shapes == [(4, 5)]
