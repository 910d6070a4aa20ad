"""Kernels that tensors without data have not: results as the host's own functions give them."""

from functools import partial

import pytest
import torch

from bench.memory.recording.missing import nothing_missing

aten = torch.ops.aten


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: aten._standard_gamma_grad(x, y),
        lambda x, y: aten._dirichlet_grad(x, y, y),
        lambda x, y: aten._sample_dirichlet(x),
        lambda x, y: torch.binomial(y, x),
        lambda x, y: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255),
        lambda x, y: aten.fake_quantize_per_tensor_affine_cachemask(x, 0.1, 0, 0, 255),
        lambda x, y: aten.fake_quantize_per_channel_affine_cachemask(x, y[:, 0], y[:, 0].int(), 0, 0, 255),
        lambda x, y: aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
            x, y[0, :1], y[0, :1].int(), y[0, :1].long(), 0, 255
        ),
        lambda x, y: aten.multi_margin_loss_backward(y[0, 0], x, y[:, 0].long(), 1, 1.0, None, 1),
        lambda x, y: aten.multilabel_margin_loss_backward(y[0, 0], x, y.long(), 1, y),
        lambda x, y: torch._grouped_mm(
            x.bfloat16().repeat(1, 4), y.bfloat16().repeat(4, 2).expand(2, 16, 8), offs=x[:2, 0].int()
        ),
    ],
)
def test_results_are_as_on_the_host(call):
    def described(made):
        made = made if isinstance(made, tuple) else (made,)
        return [(each.shape, each.stride(), each.dtype) for each in made]

    x, y = torch.full((4, 4), 0.5), torch.ones(4, 4)
    with nothing_missing():
        without_data = described(call(x.to("meta"), y.to("meta")))
    assert without_data == described(call(x, y))


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)])
def test_fused_updates_write_in_place(rate):
    x = [torch.zeros(3, device="meta")]
    options = {"weight_decay": 0.0, "maximize": False}
    updates = (
        partial(
            *(aten._fused_sgd_, x, x, x),
            **{"momentum": 0.9, "dampening": 0.0, "nesterov": False, "is_first_step": True, **options},
        ),
        partial(aten._fused_adagrad_, x, x, x, x, lr_decay=0.0, eps=0.1, **options),
    )
    for update in updates:
        with pytest.raises(NotImplementedError, match="attempted to run this operator with Meta tensors"):
            update(lr=rate)
        with nothing_missing():
            assert update(lr=rate) is None
