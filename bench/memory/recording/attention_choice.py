"""Which kernel computes attention on a GPU: cuDNN's, flash, memory-efficient, or plain products of matrices.

PyTorch chooses by the card, the type, the size of the heads and the mask (ATen/native/transformers/cuda/sdp_utils.cpp),
and so does `chosen`; torch.nn.attention.sdpa_kernel is obeyed. Hopper and Blackwell's large chips prefer cuDNN's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bench.memory.simulated import installed_release

Choice = Literal["cudnn", "flash", "efficient", "math"]

_HALF = (torch.float16, torch.bfloat16)
_GROUPED_SINCE = (2, 14)  # memory-efficient attention with fewer heads of keys than of queries
_ONE_HEAD_SINCE = (2, 14)  # one head of keys and values is one for all queries, also where that is not asked for
_OF_THREE_SINCE = (2, 14)  # inputs of three dimensions are a batch of one


def chosen(
    capability: tuple[int, int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    grouped: bool,
) -> Choice:
    """Which kernel a card of this compute capability takes: the first that can, in PyTorch's order."""
    if is_of_three(query, key, value):
        query, key, value, mask = as_batch(query, key, value, mask)
    backends = torch.backends.cuda
    inputs = (query, key, value)
    is_fusable = (
        all(each.dim() == 4 and each.dtype is query.dtype for each in inputs)
        and all(each.size(-2) > 0 for each in inputs)
        and query.size(0) == key.size(0) == value.size(0)
        and query.size(-1) == key.size(-1)
        and (mask is None or mask.stride(-1) == 1)  # the only fused kernels that take masks read rows
    )
    if not is_fusable:
        return "math"
    agree = _heads_agree(query, key, value, grouped)
    cudnn_takes_heads = agree or (grouped and _heads_divide(query, key, value))
    can_be_cudnn = cudnn_takes_heads and _cudnn_can(capability, query, key, value, mask, dropout)
    if can_be_cudnn and backends.cudnn_sdp_enabled():
        return "cudnn"
    if not agree:
        return "math"
    if backends.flash_sdp_enabled() and _flash_can(capability, query, key, value, mask, dropout, is_causal):
        return "flash"
    if backends.mem_efficient_sdp_enabled() and _efficient_can(capability, query, key, value):
        return "efficient"
    return "math"


def is_of_three(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether these are inputs of three dimensions that are taken as a batch of one."""
    return query.dim() == key.dim() == value.dim() == 3 and installed_release() >= _OF_THREE_SINCE


def as_batch(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Inputs of three dimensions as a batch of one, whose first dimension is heads."""
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())]
    return query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), mask


def _heads_agree(query: Tensor, key: Tensor, value: Tensor, grouped: bool) -> bool:
    heads, of_keys, of_values = (each.size(1) for each in (query, key, value))
    if of_keys != of_values:
        return False
    is_for_all = of_keys == 1 and installed_release() >= _ONE_HEAD_SINCE
    return heads == of_keys or is_for_all or (grouped and heads % of_keys == 0)


def _heads_divide(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether each head of keys is for so many queries, and each of values for so many, which cuDNN takes."""
    return query.size(1) % key.size(1) == 0 and query.size(1) % value.size(1) == 0


def _cudnn_can(
    capability: tuple[int, int], query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> bool:
    width, of_values = query.size(-1), value.size(-1)
    if capability[0] not in (9, 10) or query.dtype not in _HALF or width % 8 or of_values % 8:
        return False
    if mask is not None and (mask.requires_grad or mask.dim() not in (2, 4)):
        return False
    if (dropout * 16) % 1:
        return False
    if key.size(-2) == 1 or (dropout and query.size(-2) == 1):
        return False
    if any(each.stride(-1) != 1 for each in (query, key, value)):
        return False
    if not trains(query, key, value):
        return max(width, of_values) <= 256
    return max(width, of_values) <= 128 or (width, of_values) in ((192, 128), (256, 256))


def _flash_can(
    capability: tuple[int, int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
) -> bool:
    width = query.size(-1)
    if mask is not None or query.dtype not in _HALF or not (8, 0) <= capability <= (12, 1):
        return False
    if value.size(-1) != width or width > 256 or (is_causal and query.size(-2) != key.size(-2)):
        return False
    if any(each.stride(-1) != 1 and each.size(-1) != 1 for each in (query, key, value)):
        return False
    has_little_memory = (8, 6) <= capability <= (8, 9) or capability >= (12, 0)
    if has_little_memory and trains(query, key, value):
        return width <= 192 or (not dropout and width > 224)
    return True


def _efficient_can(capability: tuple[int, int], query: Tensor, key: Tensor, value: Tensor) -> bool:
    if query.dtype not in (torch.float32, torch.float16, *([torch.bfloat16] if capability >= (8, 0) else [])):
        return False
    if any(each.stride(-1) != 1 for each in (query, key, value)):
        return False
    if key.size(1) != query.size(1) and installed_release() < _GROUPED_SINCE:
        return False
    numbers_at_once = 4 if capability >= (8, 0) else 1  # tensor cores read 128 bits
    alignment = 8 if query.dtype in _HALF else numbers_at_once
    return not (query.size(-1) % alignment or value.size(-1) % alignment)


def trains(*inputs: Tensor) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(each.requires_grad for each in inputs)
