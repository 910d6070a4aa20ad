"""What a copy from the host to a card takes there beside its result.

Bytes travel as they lie. Where layouts or types differ, a copy that waits converts on the host and rearranges on the
card, one that does not wait does both there: in a block of the result's shape, contiguous (`copy_kernel_cuda` in
aten/src/ATen/native/cuda/Copy.cu).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from bench.memory.recording.composites import Give, Take

aten = torch.ops.aten

OPS = {aten._to_copy.default, aten.copy_.default}


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    """What a copy allocates, in order."""
    if op is aten.copy_.default:
        target, source, runs_on = args
    else:
        (source, *_, runs_on, _), (target,) = args, outputs
    waits = not runs_on
    if is_lazy(source) or source.device.type != "cpu" or not target.is_meta or _lie_alike(source, target):
        return outputs
    bytes_each = target.element_size() if waits else source.element_size()
    if target.is_contiguous() and (waits or source.dtype is target.dtype):
        return outputs
    return *outputs, Take(0, target.numel() * bytes_each), Give(0)


def _lie_alike(one: Tensor, other: Tensor) -> bool:
    """Whether one is a copy of the other's block, byte for byte."""
    return one.dtype is other.dtype and one.shape == other.shape and one.stride() == other.stride()
