"""One step of a recurrent layer, nn.LSTMCell and nn.GRUCell: on a card one kernel beside two products.

What it needs for its gradients is kept in a block of its own: four numbers of an LSTM, five of a GRU for each unit
(ATen/native/RNN.cpp, ATen/native/cuda/RNN.cu). Without data PyTorch takes the gates apart instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording.reducing import summed

aten = torch.ops.aten

_NUMBERS_KEPT = 5  # by a GRU, for each unit


@contextlib.contextmanager
def cells_of_a_card() -> Iterator[None]:
    """Within this context cells without data run as on a card."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("lstm_cell", _lstm, "AutogradMeta")
    library.impl("gru_cell", _gru, "AutogradMeta")
    library.impl("_thnn_fused_lstm_cell", _lstm_forward, "Meta", allow_override=True)  # PyTorch's needs biases
    library.impl("_thnn_fused_gru_cell", _gru_forward, "Meta")
    library.impl("_thnn_fused_gru_cell_backward", _gru_backward, "Meta")
    try:
        yield
    finally:
        library._destroy()


def _lstm(
    image: Tensor, states: Sequence[Tensor], of_input: Tensor, of_hidden: Tensor, *biases: Tensor | None
) -> tuple[Tensor, Tensor]:
    hidden, cell = states
    gates = torch.matmul(image, of_input.t()), torch.matmul(hidden, of_hidden.t())
    new_hidden, new_cell, _ = aten._thnn_fused_lstm_cell(*gates, cell, *biases)
    return new_hidden, new_cell


def _lstm_forward(
    of_input: Tensor, of_hidden: Tensor, cell: Tensor, *biases: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    state = torch.empty_like(cell, memory_format=torch.contiguous_format)
    return state, torch.empty_like(state), torch.empty_like(of_input, memory_format=torch.contiguous_format)


def _gru(image: Tensor, hidden: Tensor, of_input: Tensor, of_hidden: Tensor, *biases: Tensor | None) -> Tensor:
    gates = torch.matmul(image, of_input.t()), torch.matmul(hidden, of_hidden.t())
    new_hidden: Tensor = aten._thnn_fused_gru_cell(*gates, hidden, *biases)[0]
    return new_hidden


def _gru_forward(of_input: Tensor, of_hidden: Tensor, hidden: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor]:
    kept = hidden.new_empty((hidden.shape[0], _NUMBERS_KEPT * hidden.shape[1]))
    return torch.empty_like(hidden, memory_format=torch.contiguous_format), kept


def _gru_backward(
    gradient: Tensor, kept: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    batch, width = gradient.shape
    gates = kept.new_empty((batch, 3 * width)), kept.new_empty((batch, 3 * width))
    biases = (kept.new_empty(3 * width), kept.new_empty(3 * width)) if has_bias else (None, None)
    return *gates, torch.empty_like(gradient, memory_format=torch.contiguous_format), *biases


def _kept_first(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    return outputs[-1], *outputs[:-1]


def _of_lstm_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    """The gradients of the gates and of the state, then of the biases, which is a sum of the gates'."""
    gates, state, bias = outputs
    return outputs if bias is None else (gates, state, bias, summed(gates, [0], bias))


def _of_gru_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    """The gradients of the gates and of the state, then of each bias, which is a sum of the gates'."""
    *first, of_input, of_hidden = outputs
    if of_input is None:
        return first
    gates = first[:2]
    sums = [(bias, summed(gate, [0], bias)) for gate, bias in zip(gates, (of_input, of_hidden), strict=True)]
    return *first, *(item for pair in sums for item in pair)


RULES = {
    aten._thnn_fused_lstm_cell.default: _kept_first,
    aten._thnn_fused_lstm_cell_backward_impl.default: _of_lstm_backward,
    aten._thnn_fused_gru_cell.default: _kept_first,
    aten._thnn_fused_gru_cell_backward.default: _of_gru_backward,
}
