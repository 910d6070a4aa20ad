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
| _linalg_svd | U, Vh, S | nothing | BatchLinearAlgebra.cpp, by the virtual card |

Beside these, cuBLAS keeps a workspace for the life of the process, taken from the caching allocator when a thread
first multiplies matrices or vectors. The forward pass and autograd's thread hold one each (cuda/CublasHandlePool.cpp: a
handle per thread, a workspace per handle and stream). How large it is depends on the card (gpus.Card).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.convolution import Convolution, Direction

aten = torch.ops.aten

CUBLAS_OPS = {
    getattr(packet, overload)
    for packet in (
        aten.mm,
        aten.addmm,
        aten.addmm_,
        aten.bmm,
        aten.baddbmm,
        aten.baddbmm_,
        aten.mv,
        aten.addmv,
        aten.dot,
    )
    for overload in packet.overloads()
}


class Temporary(NamedTuple):
    """Memory that a kernel takes and gives back before it returns: at most `most_bytes`.

    `call` tells which convolution takes it, so that cuDNN can be asked how much it is.
    """

    most_bytes: int
    call: Convolution | None = None


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Tensor | None]) -> Sequence[Tensor | Temporary | None]:
    """What a call allocates, in order: its outputs, and the temporaries that the table above gives it."""
    if op is aten.convolution.default:
        image, weight, _, *options = args
        (output,) = outputs
        assert output is not None
        return output, _workspace("fprop", image, weight, output, options)
    if op is aten.convolution_backward.default:
        grad_output, image, weight, _, *options = args
        grad_input, grad_weight, grad_bias = outputs
        sequence: list[Tensor | Temporary | None] = []
        if grad_input is not None:
            sequence += [grad_input, _workspace("dgrad", image, weight, grad_output, options)]
        if grad_weight is not None:
            sequence += [grad_weight, _workspace("wgrad", image, weight, grad_output, options)]
        return [*sequence, grad_bias]
    if op in (aten._fft_c2c.default, aten._fft_r2c.default, aten._fft_c2r.default):
        (output,) = outputs
        return output, Temporary(2 * max(_bytes(args[0]), _bytes(output)))
    if op in (aten._embedding_bag.default, aten._embedding_bag_forward_only.default):
        output, offset2bag, bag_size, max_indices = outputs
        return bag_size, offset2bag, output, max_indices
    if op is aten._linalg_svd.default:
        left, values, right = outputs
        return left, right, values
    return outputs


def _workspace(
    direction: Direction, image: Tensor, weight: Tensor, output: Tensor, options: Sequence[Any]
) -> Temporary:
    """The workspace of a convolution; `options` as in aten::convolution, from `stride` on."""
    most_bytes = _bytes(image) + _bytes(output)
    stride, padding, dilation, transposed, _, groups = options[:6]
    if transposed:
        return Temporary(most_bytes)
    call = Convolution(
        direction,
        *(tuple(image.shape), tuple(image.stride())),
        *(tuple(weight.shape), tuple(weight.stride())),
        *(tuple(output.shape), tuple(output.stride())),
        *(tuple(padding), tuple(stride), tuple(dilation)),
        groups,
        str(image.dtype).removeprefix("torch."),
    )
    return Temporary(most_bytes, call)


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
