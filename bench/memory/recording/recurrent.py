"""Layers of nn.LSTM, nn.GRU and nn.RNN on tensors without data, as cuDNN runs them on a card: in one call.

Without a card PyTorch runs such layers cell by cell. Here torch.lstm and its like call what ATen/native/cudnn/RNN.cpp
calls (cudnn_rnn.py): the weights lie in one block (`flatten_parameters`), or are copied into one by every call; random
states that drop numbers between layers are made once, and anew after torch.manual_seed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.memory.recording.cudnn_rnn import FORWARD, STATES, Call, rnn_without_data
from bench.memory.recurrence import KINDS, Layers

_FLATTENED = (torch.float16, torch.float32, torch.float64)  # torch.backends.cudnn.is_acceptable
_NAMES = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}


@contextlib.contextmanager
def layers_of_cudnn() -> Iterator[None]:
    """Within this context recurrent layers without data run as on a card."""
    states = _States()
    with rnn_without_data(), contextlib.ExitStack() as patches:
        for name, kind in _NAMES.items():
            kernel = _in_one_call(getattr(torch._VF, name), kind, states)
            for owner in (torch._VF, torch):  # nn.LSTM calls the one, a program itself the other
                patches.enter_context(patch.object(owner, name, kernel))
        flatten = _flattened(nn.RNNBase.flatten_parameters)
        patches.enter_context(patch.object(nn.RNNBase, "flatten_parameters", flatten))
        for name in ("manual_seed", "manual_seed_all"):
            patches.enter_context(patch.object(torch.cuda, name, states.forgotten_by(getattr(torch.cuda, name))))
        yield


class _States:
    """The random states of one recording (`get_dropout_state`)."""

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self._are_made = False

    def needed(self, dropout: float) -> None:
        """Make them, if there are none yet or a seed was set since."""
        if not self._are_made:
            torch.empty((), dtype=torch.int64, device="meta")  # the seed
            self.tensor = STATES(dropout, True, 0, dtype=torch.uint8, device=torch.device("meta"))
            self._are_made = True

    def forgotten_by(self, seed: Callable[..., Any]) -> Callable[..., Any]:
        """A function that sets a seed."""

        def call(*args: Any, **kwargs: Any) -> None:
            self._are_made = False
            seed(*args, **kwargs)

        return call


def _in_one_call(kernel: Callable[..., Any], kind: str, states: _States) -> Callable[..., Any]:
    """torch.lstm and its like: `_cudnn_impl`, for tensors that cuDNN takes."""

    def run(*args: Any, **kwargs: Any) -> Any:
        placed = _by_place(args, kwargs)
        if placed is None:
            return kernel(*args, **kwargs)  # which says what is wrong
        data, batch_sizes, hidden, weights, has_biases, layers, dropout, trains, both, batch_first = _arguments(placed)
        if not data.is_meta or not data.numel() or not torch.backends.cudnn.enabled:
            return kernel(*placed)
        hx, cx = hidden if kind == "lstm" else (hidden, None)
        width = (hx if cx is None else cx).size(2)
        projected = hx.size(2)
        if trains and dropout > 0:
            states.needed(dropout)
        output, last, cell, *_ = FORWARD(
            data,
            weights,
            (4 if has_biases else 2) + (projected != width),
            _one_block(weights),
            hx,
            cx,
            KINDS.index(kind),
            width,
            0 if projected == width else projected,
            layers,
            batch_first,
            dropout,
            trains,
            both,
            batch_sizes,
            None,
        )
        return (output, last) if cx is None else (output, last, cell)

    return run


def _by_place(args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any] | None:
    """The arguments of either form, named or not, in its order; None if they are of neither."""
    options = "params", "has_biases", "num_layers", "dropout", "train", "bidirectional"
    for names in (("input", "hx", *options, "batch_first"), ("data", "batch_sizes", "hx", *options)):
        named = names[len(args) :]
        if set(named) == set(kwargs) and len(args) <= len(names):
            return *args, *(kwargs[name] for name in named)
    return None


def _arguments(args: Sequence[Any]) -> tuple[Any, ...]:
    """Of both forms: data, lengths of batches, hidden states, weights, ..., whether the batch comes first."""
    if not isinstance(args[3], (list, tuple)):
        data, hidden, *others, batch_first = args
        return data, [], hidden, *others, batch_first
    data, batch_sizes, hidden, *others = args
    return data, batch_sizes.tolist(), hidden, *others, False


def _one_block(weights: Sequence[Tensor]) -> Tensor | None:
    """The block that all weights lie in, if there is one (`try_get_weight_buf`)."""
    storage = weights[0].untyped_storage()
    numbers = storage.nbytes() // weights[0].element_size()
    if any(weight.untyped_storage()._cdata != storage._cdata for weight in weights):
        return None
    if len({weight.storage_offset() for weight in weights}) < len(weights):
        return None
    block = torch.empty(0, dtype=weights[0].dtype, device="meta")
    block.set_(storage, 0, (numbers,), (1,))
    return block


def _flattened(flatten: Callable[..., Any]) -> Callable[..., Any]:
    """nn.RNNBase.flatten_parameters, also of weights without data."""

    def call(layer: nn.RNNBase) -> None:
        weights: list[Any] = layer._flat_weights
        if len(weights) != len(layer._flat_weights_names) or not all(isinstance(each, Tensor) for each in weights):
            return
        if not all(each.untyped_storage().device.type == "meta" for each in weights):
            flatten(layer)
            return
        if any(each.dtype is not weights[0].dtype for each in weights):
            return
        if weights[0].dtype not in _FLATTENED or not torch.backends.cudnn.enabled:
            return
        if len(set(map(id, weights))) < len(weights):
            return
        with torch.no_grad():
            block = torch.zeros(_numbers_of(layer), dtype=weights[0].dtype, device="meta")
            place = 0
            for weight in weights:
                weight.set_(block[place : place + weight.numel()].view_as(weight))
                place += weight.numel()

    return call


def _numbers_of(layer: nn.RNNBase) -> int:
    """Of all weights in one block, biases always among them."""
    kind = {"LSTM": "lstm", "GRU": "gru"}.get(layer.mode, "tanh")
    directions, projected = 1 + layer.bidirectional, layer.proj_size or layer.hidden_size
    sizes = layer.input_size, layer.hidden_size, projected, layer.num_layers, directions
    return Layers(kind, *sizes, 1, 1, 1, False, False, False, "float32", 4).weights


def in_half(cast: Callable[[torch.dtype, Any], Any], *args: Any) -> Any:
    """A call under torch.autocast: weights are copied into a block of float16, whatever type was asked for.

    `cast` casts an argument. As `_cudnn_rnn_cast_reflatten` in ATen/cudnn/AutocastRNN.cpp.
    """
    data, weights, stride, block, hx, cx, *options = args
    half = torch.float16
    if weights[0].is_meta and weights[0].dtype in (torch.float32, torch.bfloat16):
        layers = Call(*options[:9]).of(data)
        block = torch.zeros(layers.weights, dtype=half, device="meta")
        weights = list(_copied(weights, block))
    cx, hx, data = (cast(half, each) for each in (cx, hx, data))
    return FORWARD(data, weights, stride, block, hx, cx, *options)


def _copied(weights: Sequence[Tensor], block: Tensor) -> Iterator[Tensor]:
    """Weights as parts of a block, with gradients."""
    place = 0
    for weight in weights:
        part = torch.empty(0, dtype=block.dtype, device="meta")
        part.set_(block.untyped_storage(), place, (weight.numel(), 1), (1, 1))
        yield part.copy_(weight.view_as(part))
        place += weight.numel()
