"""torch's scaled_dot_product_attention on tensors without data, by the kernel that a GPU takes.

Tensors without data get plain products of matrices; on a GPU PyTorch chooses (attention_choice.py). What the fused
kernels take beside their results is told by `allocations`: of flash attention as in its set_params_splitkv and
mha_bwd, of memory-efficient attention as its kernels' workspace_size (mem_eff_attention/kernel_backward.h), whose
blocks were read off the virtual card.

Hopper and Blackwell's large chips prefer cuDNN's attention. What that takes was read off the virtual card with the real
cuDNN, 9.24: forward 256 bytes, backward the gradient of the queries in float32 and a number for each row.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bench.memory.gpus import CARDS, Card
from bench.memory.recording.attention_choice import Choice, as_batch, chosen, is_of_three, trains
from bench.memory.recording.composites import Give, Kept, Take
from bench.memory.simulated import installed_release

aten = torch.ops.aten

_HALF = (torch.float16, torch.bfloat16)
FLASH, FLASH_BACKWARD = aten._scaled_dot_product_flash_attention, aten._scaled_dot_product_flash_attention_backward
EFFICIENT = aten._scaled_dot_product_efficient_attention
EFFICIENT_BACKWARD = aten._scaled_dot_product_efficient_attention_backward
CUDNN, CUDNN_BACKWARD = aten._scaled_dot_product_cudnn_attention, aten._scaled_dot_product_cudnn_attention_backward
FUSED = {each.default for each in (CUDNN, CUDNN_BACKWARD, FLASH, FLASH_BACKWARD, EFFICIENT, EFFICIENT_BACKWARD)}

_WITH_BLOCKS_OF_96 = ((8, 6), (8, 9))  # compute capabilities with a kernel of their own for so wide heads
_SEEDS_SINCE = (2, 14)  # memory-efficient attention makes a seed and its place also where nothing is dropped
_CUDNN_BYTES = 256  # of every workspace of cuDNN's attention


ORDINARY = "RTX 3080"  # whose kernels run where no card is known


class Kernels(NamedTuple):
    """What of a card decides how attention is computed."""

    capability: tuple[int, int]
    multiprocessors: int

    @classmethod
    def of(cls, card: Card | None) -> Kernels:
        """Those of a card; an ordinary one's, where none is given or only a capacity is known."""
        card = with_kernels(card)
        assert card.compute_capability and card.multiprocessors
        return cls(card.compute_capability, card.multiprocessors)


def with_kernels(card: Card | None) -> Card:
    """A card whose kernels are known: an ordinary one's, where none is given or only a capacity."""
    ordinary = CARDS[ORDINARY]
    if card is None or card.multiprocessors_and_threads:
        return card or ordinary
    return replace(ordinary, total_bytes=card.total_bytes, context_bytes=card.context_bytes)


@dataclass
class Attention:
    """The kernels that attention is computed with, and which were chosen."""

    kernels: Kernels
    choices: set[Choice] = field(default_factory=set)


_attention_now: ContextVar[Attention] = ContextVar("attention")


@contextlib.contextmanager
def attention_of(kernels: Kernels) -> Iterator[Attention]:
    """Within this context attention is that of a card; what is given tells what was chosen."""
    asked = Attention(kernels)
    with contextlib.nullcontext() if _attention_now.get(None) else _registered():
        token = _attention_now.set(asked)
        try:
            yield asked
        finally:
            _attention_now.reset(token)


@contextlib.contextmanager
def _registered() -> Iterator[None]:
    """PyTorch takes one kernel for tensors without data at a time."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("scaled_dot_product_attention", _attention, "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As scaled_dot_product_attention of ATen/native/transformers/attention.cpp on a GPU."""
    asked = _attention_now.get()
    if is_of_three(query, key, value):
        of_four = as_batch(query, key, value, attn_mask)
        return _attention(*of_four, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa).squeeze(0)
    choice = chosen(asked.kernels.capability, query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    asked.choices.add(choice)
    mask = _as_numbers(attn_mask, query.dtype)
    if choice == "math":
        output: Tensor = aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
        )[0]
        return output
    scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    if choice == "cudnn":
        keeps_sums = trains(query, key, value)
        mask = None if mask is None else mask.expand(query.size(0), query.size(1), query.size(-2), key.size(-2))
        output, sums, *_, seed, offset, _ = CUDNN(
            query, key, value, mask, keeps_sums, dropout_p, is_causal, False, scale=scale
        )
        del sums, seed, offset, _
        return output
    if choice == "efficient":
        keeps_sums = trains(query, key, value)
        mask = _aligned(mask, query, key)
        output = EFFICIENT(query, key, value, mask, keeps_sums, dropout_p, is_causal, scale=scale)[0]
        return output
    width = query.size(-1)
    more = -width % 8
    padded = [functional.pad(each, (0, more)) for each in (query, key, value)] if more else (query, key, value)
    output, sums, *_, state, unused, nothing = FLASH(*padded, dropout_p, is_causal, False, scale=scale)
    del sums, state, unused, nothing, _  # in PyTorch's order, where no gradient needs them
    return output[..., :width] if more else output


def _as_numbers(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of booleans as one to be added (convert_boolean_attn_mask)."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    nothing = torch.scalar_tensor(-math.inf, dtype=dtype, device=mask.device)
    zero = torch.scalar_tensor(0.0, dtype=dtype, device=mask.device)
    return torch.where(mask, zero, nothing)


def _aligned(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """A mask as memory-efficient attention takes it (preprocess_mask)."""
    if mask is None:
        return None
    columns = mask.size(-1)
    if columns % 8:
        mask = functional.pad(mask, (0, -columns % 8))[..., :columns]
    return mask.expand(query.size(0), query.size(1), query.size(-2), key.size(-2))


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    """What a fused kernel allocates and frees, in order: its outputs, and what it takes beside them."""
    if op is CUDNN.default:
        output, sums, *_, seed, offset, _ = outputs
        kept = sums if args[4] else Kept(sums, 0)
        return seed, offset, output, kept, Take(0, _CUDNN_BYTES), Give(0)
    if op is CUDNN_BACKWARD.default:
        return _of_cudnn_backward(args, outputs)
    if op is FLASH.default:
        return _of_flash(args, outputs)
    if op is FLASH_BACKWARD.default:
        return _of_flash_backward(args, outputs)
    if op is EFFICIENT.default:
        return _of_efficient(args, outputs)
    return _of_efficient_backward(args, outputs)


def _of_cudnn_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, query, key, value = args[:4]
    batch, heads, length, width = query.shape
    rows = batch * heads * length
    size_bytes = _CUDNN_BYTES + 4 * rows + 4 * rows * width
    for each in (key, value):
        if each.size(1) != heads:  # gradients for each head of the queries
            size_bytes += heads // each.size(1) * _bytes(each)
    workspace = Take(0, size_bytes), Give(0)
    if gradient.stride(-1) == 1:
        return *outputs, *workspace
    return *outputs, Take(1, _bytes(gradient)), *workspace, Give(1)  # laid out as the result


def _of_flash(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    query, key = args[:2]
    dropout = args[3]
    output, sums, *_, state, unused, _ = outputs
    if dropout:  # the state is made twice
        return output, sums, Take(0, _bytes(state)), unused, state, Give(0)
    splits = _splits(query, key)
    if splits == 1:
        return output, sums, state, unused
    batch, heads, length, width = query.shape
    rows = splits * batch * heads * length
    takes = Take(0, 4 * rows), Take(1, 4 * rows * _up(width, 32 if width <= 128 else 64))
    return output, sums, *takes, state, unused, Give(1), Give(0)


def _splits(query: Tensor, key: Tensor) -> int:
    """Into how many parts flash attention splits the keys, so that a card with few rows of work is busy."""
    batch, heads, length, width = query.shape
    block = 256 if width <= 64 else 128 if width <= 128 else 64
    blocks = -(-key.size(-2) // block)
    work, places = batch * heads * -(-length // 64), 2 * _attention_now.get().kernels.multiprocessors
    if work >= 0.8 * places:
        return 1
    efficiency: dict[int, float] = {}
    for splits in range(1, min(128, places, blocks) + 1):
        if splits == 1 or -(-blocks // splits) != -(-blocks // (splits - 1)):
            waves = work * splits / places
            efficiency[splits] = waves / math.ceil(waves)
    best = max(efficiency.values())
    return next(splits for splits, each in efficiency.items() if each >= 0.85 * best)


def _of_flash_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, query, key, value, output = args[:5]
    batch, heads, length, width = query.shape
    copies = [each for each in (gradient, output) if not each.transpose(1, 2).is_contiguous()]
    rows = 4 * batch * heads * _up(length, 128)
    after = [rows, rows * _up(width, 32 if width <= 128 else 64)]
    if key.size(1) != heads:
        after += [heads // key.size(1) * _bytes(each) for each in (key, value)]
    sizes = [_bytes(each) for each in copies]
    before = [Take(number, size) for number, size in enumerate(sizes)]
    takes = [Take(number, size) for number, size in enumerate(after, len(sizes))]
    return *before, *outputs, *takes, *(Give(each.number) for each in reversed((*before, *takes)))


def _of_efficient(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    query, _, value = args[:3]
    dropout = args[5]
    output, sums, seed, offset = outputs
    on_the_host = (Kept(seed, 0), Kept(offset, 0))
    first = on_the_host if dropout or installed_release() < _SEEDS_SINCE else (seed, offset)
    if query.dtype not in _HALF or max(query.size(-1), value.size(-1)) <= 128:
        return *first, output, sums
    return *first, output, sums, Take(0, 4 * output.numel()), Give(0)


def _of_efficient_backward(args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    gradient, query, key, value = args[:4]
    dropout = args[9]
    batch, heads, length, _ = query.shape
    sizes = [] if gradient.transpose(1, 2).is_contiguous() else [_bytes(gradient)]
    before = [Take(number, size) for number, size in enumerate(sizes)]
    row = 4 * batch * heads * length
    first = len(before)
    if query.dtype in _HALF:
        delta: list[Any] = [Take(first, row)]
    else:  # the product of the result and its gradient, its sums, and these in another order
        product, sums = Take(first + 1, _bytes(gradient)), Take(first + 2, row)
        delta = [product, sums, Take(first, row), Give(sums.number), Give(product.number)]
    of_keys: list[Take] = []
    if key.size(1) != heads:  # gradients of keys and values for each head of the queries, summed at the end
        each_head = [heads // key.size(1) * _bytes(each) for each in (key, value)]
        of_keys = [Take(number, size) for number, size in enumerate(each_head, first + 4)]
    workspace = Take(first + 3, 4 * batch * heads * _workspace_numbers(query, key, value, dropout))
    gives = (Give(first), Give(workspace.number), *(Give(each.number) for each in reversed((*before, *of_keys))))
    return *before, *outputs, *of_keys, *delta, workspace, *gives


def _workspace_numbers(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> int:
    """The float32 numbers that the backward pass of memory-efficient attention takes for each head of each sample."""
    batch, heads, length, width = query.shape
    rows, columns, accumulates = _blocks(query.dtype in _HALF, max(width, value.size(-1)), dropout)
    of_queries = -(-length // rows) * -(-width // columns) * (rows * columns + 4)
    if not accumulates:
        return of_queries
    splits = max(1, min(-(-key.size(-2) // 64), 200 // (batch * heads)))
    return of_queries + splits * 64 * (_up(width, rows) + _up(value.size(-1), rows))


def _blocks(half: bool, width: int, dropout: float) -> tuple[int, int, bool]:
    """The kernel's block of queries and of columns, and whether it sums gradients of keys in memory."""
    capability = _attention_now.get().kernels.capability
    is_large = capability in ((8, 0), (8, 7)) or 9 <= capability[0] < 12  # with 160 KiB of shared memory or more
    if not half:
        return (128 if is_large and width > 64 else 64), 64, False
    if width <= 64:
        return 64, 64, False
    if width > 128:
        return 128, 64, True
    if is_large:
        return 128, 128, False
    if capability < (8, 0) or (capability in _WITH_BLOCKS_OF_96 and width <= 96 and not dropout):
        return 128, 64, False
    return 64, 64, True


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
