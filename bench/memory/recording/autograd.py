"""What autograd does in place on a card, and out of place for tensors without data.

PyTorch takes meta tensors, and all tensors under a dispatch mode, for subclasses (`isTensorSubclassLike` in
ATen/TensorSubclassLikeUtils.h), which it never writes into where it can help it. On a card it does: it sums the
gradients of a tensor that is used twice in the first of them, and some formulas fill the zeros they have just made.
Here such calls are told from all others, so that a recorder can run the one that a card runs.

| call | in place on a card where | PyTorch's source |
|---|---|---|
| a + b by the engine | grad mode is off, a is dense, nobody else holds a or its storage | autograd/input_buffer.cpp |
| zeros filled by scatter, scatter_add, index_put, put, index_fill | always | autograd/FunctionsManual.cpp |
| x W + bias in linear | always | ATen/native/Linear.cpp |
| the gradient of binary_cross_entropy_with_logits | grad mode is off | ATen/native/Loss.cpp |
| gradients of the larger of two, maximum and minimum | grad mode is off | autograd/FunctionsManual.cpp |
| which elements are the largest, in the gradient of max and min | grad mode is off | autograd/FunctionsManual.cpp |

Who holds a tensor is asked, not guessed: a call of PyTorch's own C++ code leaves fewer references to its first argument
than one from Python, whose caller holds it too. The engine's sum is told from an a + b inside a formula by who made a:
the engine's was made by the formula of another node of the graph.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_FILLS = {
    aten.scatter.src: aten.scatter_.src,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.index_put.default: aten._index_put_impl_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.put.default: aten.put_.default,
    aten.index_fill.int_Scalar: aten.index_fill_.int_Scalar,
}
_ZEROS = {aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default}
_PRODUCTS = {aten.mm.default, aten.bmm.default}
_STEPS = {
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.add.Tensor: aten.add_.Tensor,
    aten.logical_and.default: aten.logical_and_.default,
    aten.masked_fill.Scalar: aten.masked_fill_.Scalar,
}
CANDIDATES = frozenset(map(id, _FILLS | _STEPS))  # by id: an operation's own hash is slow Python

_WRITING_NODES = {
    "BinaryCrossEntropyWithLogitsBackward0": {aten.sub.Tensor, aten.mul.Tensor},
    "MaxBackward1": {aten.logical_and.default},
    "MinBackward1": {aten.logical_and.default},
    "MaximumBackward0": {aten.masked_fill.Scalar},
    "MinimumBackward0": {aten.masked_fill.Scalar},
}


class NodeOfTask(NamedTuple):
    """A node of the graph while a backward pass runs it; two threads can give nodes the same number."""

    number: int
    kind: type


class Maker(NamedTuple):
    """Who made a storage: the operation, and the node whose formula called it (None: no node)."""

    func: Any
    node: NodeOfTask | None


def maker(func: Any) -> Maker:
    """The maker of what `func` allocates now."""
    return Maker(func, None if torch._C._current_graph_task_id() == -1 else _node_now())


def in_place(func: Any, args: Any, made_by: Maker) -> Any:
    """The operation that a card runs in place of `func`: itself, or the one that writes into its first argument.

    `made_by` is who made the storage of the first argument. To be called by a dispatch mode's __torch_dispatch__.
    """
    held = references(args)
    alone = references_of_a_formula()
    if held.in_python != alone.in_python:
        return func
    if func in _FILLS:  # the formula may hold them twice itself
        return _FILLS[func] if made_by.func in _ZEROS and made_by.node is not None else func
    if _formula_writes(func, made_by):  # it may hold what it has just written into twice itself
        return _STEPS[func]
    if held != alone:
        return func
    is_linear = func is aten.add.Tensor and made_by.func in _PRODUCTS and made_by.node == _node_now()
    return _STEPS[func] if is_linear or _writes(func, args, made_by) else func


def _formula_writes(func: Any, made_by: Maker) -> bool:
    """Whether the formula of the node that runs writes on a card into the first argument, which it has made."""
    node = None if torch.is_grad_enabled() else _node()
    return node is not None and made_by.node == _named(node) and func in _WRITING_NODES.get(node.name(), ())


def _writes(func: Any, args: Any, made_by: Maker) -> bool:
    """Whether the engine writes into the first argument on a card."""
    node = None if torch.is_grad_enabled() else _node()
    if node is None or made_by.node is None:
        return False
    is_of_this_node = made_by.node == _named(node)
    if func is not aten.add.Tensor or not is_non_overlapping_and_dense_or_false(args[0]):
        return False
    return not is_of_this_node or len(set(node.next_functions)) < len(node.next_functions)


class References(NamedTuple):
    """How often a tensor, its storage and its Python object are held."""

    tensor: int
    storage: int
    in_python: int


def references(args: Any) -> References:
    """Of the first argument of a call, which a dispatch mode sees."""
    storage = torch._C._storage_Use_Count(args[0].untyped_storage()._cdata)
    return References(args[0]._use_count(), storage, sys.getrefcount(args[0]))


@functools.cache
def references_of_a_formula() -> References:
    """Those of a tensor that nobody but one line of PyTorch's own C++ code holds, as this release counts them."""
    seen: list[References] = []

    class Probe(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten.add.Tensor:
                seen.append(references(args))
            return func(*args, **(kwargs or {}))

    with Probe(), torch.no_grad():
        weight = torch.empty(1, 1, device="meta")
        torch.nn.functional.linear(weight.expand(2, 3, 2, 1, 1).transpose(0, 1), weight, weight[0])
    return seen[-1]


def _node() -> Any:
    """The node of the graph whose formula runs, None outside of a backward pass."""
    return None if torch._C._current_graph_task_id() == -1 else torch._C._current_autograd_node()


def _node_now() -> NodeOfTask | None:
    node = _node()
    return None if node is None else _named(node)


def _named(node: Any) -> NodeOfTask:
    return NodeOfTask(node._sequence_nr(), type(node))
