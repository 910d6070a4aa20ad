"""Layers of nn.LSTM, nn.GRU and nn.RNN on tensors without data, as cuDNN runs them on a card: in one call.

Without a card PyTorch runs such layers cell by cell. Here what is called in their place, and what that allocates, is
what ATen/native/cudnn/RNN.cpp calls: the weights lie in one block (`flatten_parameters`), or are copied into one by
every call; a call keeps a reserve for the backward pass and takes a workspace (bench.memory.recurrence); random
states that drop numbers between layers are made once, and anew after torch.manual_seed.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.memory.recording.composites import Give, Take
from bench.memory.recurrence import KINDS, Layers
from bench.memory.simulated import installed_release

aten = torch.ops.aten
FORWARD, BACKWARD = aten._cudnn_rnn.default, aten._cudnn_rnn_backward.default
STATES = aten._cudnn_init_dropout_state.default

_FLATTENED = (torch.float16, torch.float32, torch.float64)  # torch.backends.cudnn.is_acceptable
_NAMES = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}


class StatesOfCard(NamedTuple):
    """The output of this place are random states, whose size depends on the card."""

    place: int


@contextlib.contextmanager
def layers_of_cudnn() -> Iterator[None]:
    """Within this context recurrent layers without data run as on a card."""
    states = _States()
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verrid")  # of the formula without reserve and dropped projections
            library.impl("_cudnn_rnn", _forward, "Meta", allow_override=True)
            library.impl("_cudnn_rnn_backward", _backward, "Meta", allow_override=True)
            library.impl("_cudnn_init_dropout_state", _made_states, "Meta", allow_override=True)
        with contextlib.ExitStack() as patches:
            for name, kind in _NAMES.items():
                kernel = _in_one_call(getattr(torch._VF, name), kind, states)
                for owner in (torch._VF, torch):  # nn.LSTM calls the one, a program itself the other
                    patches.enter_context(patch.object(owner, name, kernel))
            flatten = _flattened(nn.RNNBase.flatten_parameters)
            patches.enter_context(patch.object(nn.RNNBase, "flatten_parameters", flatten))
            for name in ("manual_seed", "manual_seed_all"):
                patches.enter_context(patch.object(torch.cuda, name, states.forgotten_by(getattr(torch.cuda, name))))
            yield
    finally:
        states.tensor = None
        library._destroy()


class _States:
    """The random states of one recording (`get_dropout_state`)."""

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self._is_seeded = False

    def needed(self, dropout: float) -> None:
        """Make them, if there are none yet or a seed was set since."""
        if self.tensor is None or self._is_seeded:
            torch.empty((), dtype=torch.int64, device="meta")  # the seed
            self.tensor = STATES(dropout, True, 0, dtype=torch.uint8, device=torch.device("meta"))
            self._is_seeded = False

    def forgotten_by(self, seed: Callable[..., Any]) -> Callable[..., Any]:
        """A function that sets a seed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._is_seeded = True
            return seed(*args, **kwargs)

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
        if not all(each.is_meta or each.untyped_storage().device.type == "meta" for each in weights):
            flatten(layer)
            return
        if any(each.dtype is not weights[0].dtype or not each.numel() for each in weights):
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


class _Call(NamedTuple):
    """The arguments of both passes that say what runs."""

    mode: int
    width: int
    projected: int
    layers: int
    batch_first: bool
    dropout: float
    trains: bool
    both: bool
    batch_sizes: Sequence[int]

    @property
    def is_transposed(self) -> bool:
        """Whether cuDNN gets a transposed input."""
        return self.batch_first and not self.batch_sizes

    def of(self, data: Tensor) -> Layers:
        """The layers, on these data."""
        if self.batch_sizes:
            steps, batch, samples = len(self.batch_sizes), self.batch_sizes[0], data.size(0)
        else:
            batch, steps = (data.size(0), data.size(1)) if self.batch_first else (data.size(1), data.size(0))
            samples = steps * batch
        return Layers(
            kind=KINDS[self.mode],
            inputs=data.size(-1),
            width=self.width,
            projected=self.projected or self.width,
            layers=self.layers,
            directions=1 + self.both,
            steps=steps,
            batch=batch,
            samples=samples,
            is_packed=bool(self.batch_sizes),
            drops=self.trains and self.dropout > 0 and self.layers > 1,
            trains=self.trains,
            dtype=str(data.dtype).removeprefix("torch."),
            element_bytes=data.element_size(),
        )


def _forward(
    data: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    weight_buf: Tensor | None,
    hx: Tensor,
    cx: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The results of `_cudnn_rnn`: output, hidden states, cells, reserve, weights in one block."""
    call = _Call(*options[:9])
    layers = call.of(data)
    numbers = layers.projected * layers.directions
    if call.batch_sizes:
        output = data.new_empty(layers.samples, numbers)
    else:
        output = data.new_empty(layers.steps, layers.batch, numbers)
    output = output.transpose(0, 1) if call.is_transposed else output
    states = layers.layers * layers.directions, layers.batch
    last = hx.new_empty(*states, layers.projected)
    cell = hx.new_empty(0) if cx is None else cx.new_empty(*states, layers.width)
    reserve = data.new_empty(layers.reserve_bytes, dtype=torch.uint8)
    block = data.new_empty(layers.weights) if weight_buf is None else weight_buf
    return output, last, cell, reserve, block


def _backward(
    data: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    weight_buf: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    *others: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Sequence[Tensor | None]]:
    """The results of `_cudnn_rnn_backward`: gradients of data, hidden states, cells and weights, wanted or not."""
    gradients, options, mask = others[1:4], others[4:13], others[15]
    if all(each is None for each in gradients):
        return None, None, None, [None] * len(weight)
    call = _Call(*options)
    shape = data.transpose(0, 1).shape if call.is_transposed else data.shape
    of_data = data.new_empty(shape)
    of_data = of_data.transpose(0, 1) if call.is_transposed else of_data
    of_cells = None if cx is None else cx.new_empty(cx.shape)
    of_weights = list(_gradients(weight, weight_stride0, weight_buf, call)) if mask[3] else []
    return of_data, hx.new_empty(hx.shape), of_cells, of_weights


def _gradients(weight: Sequence[Tensor], weight_stride0: int, weight_buf: Tensor, call: _Call) -> Iterator[Tensor]:
    """Of the weights: parts of one block, or without biases copies of these."""
    if not _has_biases(weight_stride0, call):
        yield from (torch.empty_like(each) for each in weight)
        return
    block, place = weight_buf.new_empty(weight_buf.numel()), 0
    for each in weight:
        yield block[place : place + each.numel()].view(each.shape)
        place += each.numel()


def _has_biases(weight_stride0: int, call: _Call) -> bool:
    return weight_stride0 - bool(call.projected) == 4


def _made_states(
    dropout: float,
    train: bool,
    dropout_seed: int,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Tensor:
    return torch.empty(1, dtype=torch.uint8, device="meta")


def _of_forward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    data, call = args[0], _Call(*args[6:15])
    output, last, cell, reserve, block = outputs
    layers = call.of(data)
    copy = _copy_of(data, call, 0)
    workspace = layers.workspace(False, installed_release())
    space = Take(1, workspace.size_bytes, not workspace.is_exact)
    made = [block] if args[3] is None else []
    return *copy, output, last, cell, *made, space, reserve, Give(1), *_given(copy)


def _of_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    data, _, stride, block, hx, cx, output = args[:7]
    gradients, call, mask = args[7:10], _Call(*args[10:19]), args[21]
    if all(each is None for each in gradients):
        return ()
    of_data, of_hidden, of_cells, *of_weights = outputs
    zeros = [
        Take(number, _bytes(like))
        for number, (each, like) in enumerate(zip(gradients, (output, hx, cx), strict=True), 10)
        if each is None and like is not None
    ]
    of_output, *of_states = gradients
    copies = [*_copy_of(data, call, 0)]
    copies += _copy_of(
        torch.empty(output.shape, dtype=output.dtype, device="meta") if of_output is None else of_output, call, 1
    )
    later = [Take(20 + number, _bytes(each)) for number, each in enumerate(of_states) if not _is_whole(each)]
    workspace = call.of(data).workspace(True, installed_release())
    space = Take(2, workspace.size_bytes, not workspace.is_exact), Give(2)
    taken = [*copies, of_data, *later, of_hidden, *([] if cx is None else [of_cells]), *space]
    items = [*zeros, *taken, *_given([*copies, *later])]
    if mask[3]:
        again = [item._replace(number=3) for item in _copy_of(data, call, 0)]
        items += again
        if _has_biases(stride, call):
            items += [of_weights[0], *space]
        else:  # copied out of the block
            sums = Take(4, _bytes(block))
            items += [sums, space[0], *of_weights, Give(2), Give(4)]
        items += _given(again)
    return *items, *_given(zeros)


def _copy_of(tensor: Tensor, call: _Call, number: int) -> list[Take]:
    """What cuDNN gets of a tensor, if that does not lie one step after the other."""
    by_steps = tensor.transpose(0, 1) if call.is_transposed else tensor
    return [] if by_steps.is_contiguous() else [Take(number, _bytes(tensor))]


def _is_whole(tensor: Tensor | None) -> bool:
    return tensor is None or tensor.is_contiguous()


def _given(takes: Sequence[Take]) -> list[Give]:
    return [Give(take.number) for take in reversed(takes)]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _of_states(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    return (StatesOfCard(0),)


RULES = {FORWARD: _of_forward, BACKWARD: _of_backward, STATES: _of_states}


def in_half(cast: Callable[[torch.dtype, Any], Any], *args: Any) -> Any:
    """A call under torch.autocast: weights are copied into a block of float16, whatever type was asked for.

    `cast` casts an argument. As `_cudnn_rnn_cast_reflatten` in ATen/cudnn/AutocastRNN.cpp.
    """
    data, weights, stride, block, hx, cx, *options = args
    half = torch.float16
    if weights[0].is_meta and weights[0].dtype in (torch.float32, torch.bfloat16):
        layers = _Call(*options[:9]).of(data)
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
