"""Temporaries inside kernels, which no recording of operations can see.

A kernel on a GPU allocates more than its outputs: workspaces, copies, staging buffers. They come from the same
caching allocator, are freed when the call returns, and matter: a convolution's workspace can be as large as its
input and output together. For each such operation there is one rule: what it allocates, in which order, and the most
that its temporaries take. The least is always zero; a replay uses one bound or the other (trace.Workspace).

| operation | allocates, in this order | most, in bytes | why |
|---|---|---|---|
| convolution | output, workspace | input + output | cuDNN turns NCHW into NHWC and back |
| convolution_backward | grad_input, workspace, grad_weight, workspace, grad_bias | grad_output + input each | |
| _fft_c2c, _fft_r2c, _fft_c2r | output, workspace | 2 x the larger of the two | copy of the input, cuFFT work area |
| _embedding_bag, its forward_only | bag_size, offset2bag, output, max_indices | nothing | cuda/EmbeddingBag.cu |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


class Temporary(NamedTuple):
    """Memory that a kernel takes and gives back before it returns: at most `most_bytes`."""

    most_bytes: int


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Tensor | None]) -> Sequence[Tensor | Temporary | None]:
    """What a call allocates, in order: its outputs, and the temporaries that the table above gives it."""
    if op is aten.convolution.default:
        (output,) = outputs
        return output, Temporary(_bytes(args[0]) + _bytes(output))
    if op is aten.convolution_backward.default:
        workspace = Temporary(_bytes(args[0]) + _bytes(args[1]))
        grad_input, grad_weight, grad_bias = outputs
        sequence: list[Tensor | Temporary | None] = []
        for gradient in (grad_input, grad_weight):
            if gradient is not None:
                sequence += [gradient, workspace]
        return [*sequence, grad_bias]
    if op in (aten._fft_c2c.default, aten._fft_r2c.default, aten._fft_c2r.default):
        (output,) = outputs
        return output, Temporary(2 * max(_bytes(args[0]), _bytes(output)))
    if op in (aten._embedding_bag.default, aten._embedding_bag_forward_only.default):
        output, offset2bag, bag_size, max_indices = outputs
        return bag_size, offset2bag, output, max_indices
    return outputs


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
