"""The operation that runs all layers of an nn.LSTM, nn.GRU or nn.RNN by cuDNN, and its gradient, without data.

A call keeps a reserve for the backward pass and takes a workspace (bench.memory.recurrence). What is copied, and in
which order, is as in ATen/native/cudnn/RNN.cpp.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recurrence import KINDS, Layers, Workspace
from bench.memory.simulated import installed_release

aten = torch.ops.aten
FORWARD, BACKWARD = aten._cudnn_rnn.default, aten._cudnn_rnn_backward.default
STATES = aten._cudnn_init_dropout_state.default


class StatesOfCard(NamedTuple):
    """The output of this place are random states, whose size depends on the card."""

    place: int


@contextlib.contextmanager
def rnn_without_data() -> Iterator[None]:
    """Within this context the operation, its gradient and its random states take tensors without data."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_cudnn_rnn", _forward, "Meta", allow_override=True)  # PyTorch's has no reserve, no projections
    library.impl("_cudnn_rnn_backward", _backward, "Meta")
    library.impl("_cudnn_init_dropout_state", _made_states, "Meta")
    try:
        yield
    finally:
        library._destroy()


class Call(NamedTuple):
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
            drops=self.trains and self.dropout > 0,
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
    call = Call(*options[:9])
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
) -> tuple[Tensor, Tensor, Tensor | None, Sequence[Tensor]]:
    """The results of `_cudnn_rnn_backward`: gradients of data, hidden states, cells and weights, wanted or not."""
    call, mask = Call(*others[4:13]), others[15]
    shape = data.transpose(0, 1).shape if call.is_transposed else data.shape
    of_data = data.new_empty(shape)
    of_data = of_data.transpose(0, 1) if call.is_transposed else of_data
    of_cells = None if cx is None else cx.new_empty(cx.shape)
    of_weights = list(_gradients(weight, weight_stride0, weight_buf, call)) if mask[3] else []
    return of_data, hx.new_empty(hx.shape), of_cells, of_weights


def _gradients(weight: Sequence[Tensor], weight_stride0: int, weight_buf: Tensor, call: Call) -> Iterator[Tensor]:
    """Of the weights: parts of one block, or without biases copies of these."""
    if not _has_biases(weight_stride0, call):
        yield from (torch.empty_like(each) for each in weight)
        return
    block, place = weight_buf.new_empty(weight_buf.numel()), 0
    for each in weight:
        yield block[place : place + each.numel()].view(each.shape)
        place += each.numel()


def _has_biases(weight_stride0: int, call: Call) -> bool:
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
    data, call = args[0], Call(*args[6:15])
    output, last, cell, reserve, block = outputs
    layers = call.of(data)
    copy = _copy_of(data, call, 0)
    space = _taken(1, layers.workspace(False, installed_release()))
    made = [block] if args[3] is None else []
    return *copy, output, last, cell, *made, space, reserve, Give(1), *_given(copy)


def _taken(number: int, workspace: Workspace) -> Take:
    if not workspace.is_exact:
        warnings.warn(
            NotRecordedWarning(
                "what cuDNN takes for recurrent layers is a bound where sequences have different lengths, states are "
                "projected or one kernel may run all steps; a virtual card asks cuDNN (--engine virtual)"
            ),
            stacklevel=2,
        )
    return Take(number, workspace.size_bytes, not workspace.is_exact)


def _of_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    data, _, stride, block, hx, cx, output = args[:7]
    gradients, call, mask = args[7:10], Call(*args[10:19]), args[21]
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
    space = _taken(2, call.of(data).workspace(True, installed_release())), Give(2)
    taken = [*copies, of_data, *later, of_hidden, *([] if cx is None else [of_cells]), *space]
    items = [*zeros, *taken, *_given([*copies, *later])]
    if mask[3]:
        again = _copy_of(data, call, 3)
        items += again
        if _has_biases(stride, call):
            items += [of_weights[0], *space]
        else:  # copied out of the block
            sums = Take(4, _bytes(block))
            items += [sums, space[0], *of_weights, Give(2), Give(4)]
        items += _given(again)
    return *items, *_given(zeros)


def _copy_of(tensor: Tensor, call: Call, number: int) -> list[Take]:
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
