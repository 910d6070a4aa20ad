"""Temporaries inside kernels, which no recording of operations can see.

A kernel on a GPU allocates more than its outputs: workspaces, copies, staging buffers. They come from the same
caching allocator, are freed when the call returns, and matter: a convolution's workspace can be as large as its
input and output together. For each such operation there is one rule: what it allocates, in which order, and the most
that its temporaries take. The least is always zero; a replay uses one bound or the other (trace.Workspace).

| operation | allocates, in this order | most, in bytes | why |
|---|---|---|---|
| convolution, its backward | convolving.py | input + output each | cuDNN turns NCHW into NHWC and back |
| _fft_c2c, _fft_r2c, _fft_c2r | output, workspace | 2 x the larger of the two | copy of the input, cuFFT work area |
| _embedding_bag, its forward_only | bag_size, offset2bag, output, max_indices | nothing | cuda/EmbeddingBag.cu |
| _linalg_svd | U, Vh, S | nothing | BatchLinearAlgebra.cpp, by the virtual card |

Others take memory whose size is known, and are noted exactly (Take, Give); the virtual card of bench.virtual is the
oracle of each:

| operation | allocates, in this order |
|---|---|
| mse_loss, smooth_l1_loss, reduced | a block as large as the image that stays behind the number; the losses |
| binary_cross_entropy, soft_margin_loss, reduced | the losses, which stay behind the number; the number |
| huber_loss, reduced | the losses; the number |
| native_dropout | mask, output |
| products of matrices | output; a copy of each operand whose strides cuBLAS does not take |
| backward of pooling, padding, upsampling | output; a copy of a gradient that lies otherwise |
| softmax backward | output; the gradient times the result; copies of this and of the result where they are scattered |
| log_softmax backward | output; copies of gradient and result where they are scattered |
| im2col, col2im (unfold, fold) | a block as large as the input, which stays if the output is not larger; output |
| CTC loss, its backward | ctc.py |
| logsumexp | the largest, twice; exponentials; output |
| nll_loss, its backward | results; a copy of labels that lie scattered |
| multi_margin_loss, reduced | the number; the losses |
| any and all of one number | output; the number as a boolean |
| fused attention | attention.py |
| copies from the host | transfers.py |
| normalisation, indexing, lookups, sorting, scans | normalising.py, indexing.py, device_sorting.py |
| cells of recurrent layers; roll, randperm, powers | cells.py, rearranging.py |
| reductions (reducing.py) | output; the input in the type that is summed, if another; staging and semaphores |

Beside these, cuBLAS keeps a workspace for the life of the process, taken from the caching allocator when a thread
first multiplies matrices or vectors. The forward pass and autograd's thread hold one each (cuda/CublasHandlePool.cpp: a
handle per thread, a workspace per handle and stream). How large it is depends on the card (gpus.Card).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.normalisation import Normalisation
from bench.memory.recording import (
    attention,
    batches,
    cells,
    convolving,
    ctc,
    cudnn_rnn,
    device_sorting,
    indexing,
    normalising,
    rearranging,
    transfers,
)
from bench.memory.recording.composites import Composition, Give, Kept, Multiplies, Output, Take
from bench.memory.recording.convolving import Temporary
from bench.memory.recording.layouts import suggested, without_data
from bench.memory.recording.products import CUBLAS_OPS
from bench.memory.recording.reducing import REDUCTIONS, of_dims, reduced, whole
from bench.memory.reductions import Reduction
from bench.memory.simulated import installed_release
from bench.memory.staging import Part, Staged

aten = torch.ops.aten


Item = Tensor | Temporary | Take | Give | Kept | Reduction | Normalisation | None


class Brackets(NamedTuple):
    """What a call may take at another batch or on a card: allocated in order, freed as brackets close."""

    staged: tuple[Staged | Normalisation, ...]


Plan = tuple[Output | Temporary | Take | Give | Brackets | cudnn_rnn.StatesOfCard | Multiplies, ...]
"""What a call allocates and frees, in order: a function of its arguments' metadata, without the tensors themselves."""

_OUTER_SINCE = (2, 13)  # where it was seen; not in 2.11

_LOSSES_BEHIND_A_BLOCK = {aten.mse_loss.default, aten.smooth_l1_loss.default}
_LOSSES_KEPT = {aten.binary_cross_entropy.default, aten.soft_margin_loss.default}
_REDUCTION_OF = {aten.binary_cross_entropy.default: 3}  # place of this argument; of other losses, 2
_LOSSES = {*_LOSSES_BEHIND_A_BLOCK, *_LOSSES_KEPT, aten.huber_loss.default}
_PRODUCTS = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
}
_COPY_AFTER = {
    aten.reflection_pad1d_backward.default,
    aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
    aten._adaptive_avg_pool2d_backward.default,
    aten._fused_rms_norm_backward.default,
    aten._adaptive_avg_pool3d_backward.default,
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices_backward.default,
    aten.avg_pool2d_backward.default,
    aten.avg_pool3d_backward.default,
    aten.upsample_nearest3d_backward.default,
    aten.upsample_nearest2d_backward.default,
    aten.upsample_bilinear2d_backward.default,
    aten.upsample_bicubic2d_backward.default,
}
_AS_THE_INPUT = {
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices_backward.default,
    aten.avg_pool2d_backward.default,
}
_BEGIN_LIKE_THE_INPUT = {aten.im2col.default, aten.col2im.default}
_READ_CHANNELS_LAST = {
    aten._adaptive_avg_pool2d_backward.default: 1,
    aten.upsample_nearest2d_backward.default: 0,
    aten.upsample_bilinear2d_backward.default: 0,
}
_COPY_OF_SOURCE = {
    aten._softmax.default,
    aten._log_softmax.default,
    aten.reflection_pad2d.default,
    aten.avg_pool3d.default,
    aten.adaptive_max_pool3d.default,
    aten.topk.default,
    aten.topk.values,
}
_WHETHER = {getattr(packet, each) for packet in (aten.any, aten.all) for each in ("default", "dim", "dims")}
RULES = (
    _LOSSES
    | set(_PRODUCTS)
    | _COPY_AFTER
    | _COPY_OF_SOURCE
    | _BEGIN_LIKE_THE_INPUT
    | REDUCTIONS
    | {
        aten.native_dropout.default,
        aten._softmax_backward_data.default,
        aten._log_softmax_backward_data.default,
        aten.logsumexp.default,
    }
)

_OTHERS: dict[Any, Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]]
_OTHERS = normalising.RULES | indexing.RULES | device_sorting.RULES | batches.RULES | cudnn_rnn.RULES | ctc.RULES
_OTHERS |= cells.RULES | rearranging.RULES


def plan(
    op: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[Tensor | None],
    composition: Composition | None = None,
) -> Plan:
    """What a call allocates and frees, in order; `composition` tells it of an operation that is written by others."""
    items: Sequence[Any]
    if composition is None:
        items = [
            _by_place(item, outputs)
            for item in allocations(op, in_order(op, args, kwargs), outputs)
            if item is not None
        ]
    else:
        items = composition
    return tuple(_with_cublas(items) if op in CUBLAS_OPS and not _is_outer(op, args) else items)


def in_order(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """All arguments of a call as the operation declares them, with its own values for those that were not given."""
    others = op._schema.arguments[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in others)]


def _by_place(item: Any, outputs: Sequence[Tensor | None]) -> Any:
    """The item, with outputs by their places among all."""
    if isinstance(item, Kept):
        return Output(_place(item.output, outputs), item.size_bytes)
    if isinstance(item, Reduction):
        parts = [Part.STAGING, Part.SEMAPHORES] if item.in_result else list(Part)
        return Brackets(tuple(Staged(item, part) for part in parts))
    if isinstance(item, Normalisation):
        return Brackets((item,))
    return Output(_place(item, outputs)) if isinstance(item, Tensor) else item


def _place(output: Tensor, outputs: Sequence[Tensor | None]) -> int:
    return next(place for place, other in enumerate(outputs) if other is output)


def _with_cublas(items: Sequence[Any]) -> Iterator[Any]:
    """Operands are copied, then cuBLAS takes its workspace, then copies are given back."""
    for item in items:
        if isinstance(item, Give):
            yield Multiplies()
        yield item
    yield Multiplies()


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Tensor | None]) -> Sequence[Item]:
    """What a call allocates, in order: its outputs, and the temporaries that the tables above give it.

    Args:
        op: The operation.
        args: All of its arguments, as `in_order` has them.
        outputs: Its results.
    """
    if op in _OTHERS:
        return _OTHERS[op](args, outputs)
    if op in RULES:
        return _exact(op, args, outputs)
    if op in attention.FUSED:
        return attention.allocations(op, args, outputs)
    if op is aten.nll_loss_forward.default and args[0].dim() == 2 and not args[1].is_contiguous():
        return *outputs, Take(0, _bytes(args[1])), Give(0)
    if op is aten.nll_loss_backward.default and args[1].dim() == 2 and not args[2].is_contiguous():
        return *outputs, Take(0, _bytes(args[2])), Give(0)
    if op is aten.multi_margin_loss.default and args[0].dim() == 2 and outputs[0] is not None and not outputs[0].dim():
        losses = torch.empty(len(args[0]), dtype=args[0].dtype, device="meta")
        return *outputs, Take(0, _bytes(losses)), whole(losses, outputs[0]), Give(0)
    if op in transfers.OPS:
        return transfers.allocations(op, args, outputs)
    if op in convolving.OPS:
        return convolving.allocations(op, args, outputs)
    if op in (aten._fft_c2c.default, aten._fft_r2c.default, aten._fft_c2r.default):
        (output,) = outputs
        assert output is not None
        workspace = Temporary(2 * max(_bytes(args[0]), _bytes(output)))
        if op is not aten._fft_c2r.default:
            return output, workspace
        return output, Take(0, _bytes(args[0])), workspace, Give(0)  # cuFFT writes over what it is given
    if op in (aten._embedding_bag.default, aten._embedding_bag_forward_only.default):
        output, offset2bag, bag_size, max_indices = outputs
        return bag_size, offset2bag, output, max_indices
    if op is aten._linalg_svd.default:
        left, values, right = outputs
        return left, right, values
    return outputs


def _exact(op: Any, args: Sequence[Any], outputs: Sequence[Tensor | None]) -> Sequence[Item]:
    """What an operation of RULES allocates and frees."""
    gradient = args[0]
    if op in _COPY_AFTER:
        layout = suggested(args[1]) if op in _AS_THE_INPUT else torch.contiguous_format
        if gradient.is_contiguous(memory_format=layout) or _reads_channels_last(op, args):
            return outputs
        return _around(outputs, [gradient])
    output = outputs[0]
    assert output is not None
    if op in _LOSSES:
        image = torch.broadcast_shapes(args[0].shape, args[1].shape).numel() * args[0].element_size()
        if args[_REDUCTION_OF.get(op, 2)] == 0 or not image:  # 0: each for itself
            return outputs
        if op in _LOSSES_BEHIND_A_BLOCK:
            return Kept(output, image), Take(0, image), _of_losses(args[0], output), Give(0)
        if op in _LOSSES_KEPT:
            return Kept(output, image), Take(0, _bytes(output)), _of_losses(args[0], output), Give(0)
        return Take(0, image), output, _of_losses(args[0], output), Give(0)
    if op is aten.native_dropout.default:
        return outputs[::-1]
    if op is aten._softmax_backward_data.default:  # the gradient times the result comes first
        product = without_data(args[0]) * without_data(args[1])
        copies = [each for each in (product, args[1]) if not each.is_contiguous()]
        return _around(outputs, [product, *copies])
    if op is aten._log_softmax_backward_data.default:
        return _around(outputs, [each for each in args[:2] if not each.is_contiguous()])
    if op in _BEGIN_LIKE_THE_INPUT:
        return _resized(args[0], output)
    if op is aten.logsumexp.default:
        return _logsumexp(args, output)
    if op in _PRODUCTS:
        if _is_outer(op, args):
            return outputs
        return _around(outputs, [args[place] for place in _PRODUCTS[op] if not _cublas_takes(args[place])])
    if op in _WHETHER and args[0].numel() == 1:
        return _as_boolean(args[0], output)
    if op in REDUCTIONS:
        call = reduced(op, args, output)
        if not call.copy_bytes:
            return *outputs, call.reduction
        return *outputs, Take(0, call.copy_bytes), call.reduction, Give(0)
    return _around(outputs, [] if args[0].is_contiguous() else [args[0]])  # _COPY_OF_SOURCE


def _as_boolean(number: Tensor, output: Tensor) -> Sequence[Item]:
    """A single number is copied (`allany_impl` in ATen/native/ReduceOps.cpp)."""
    return (output,) if number.dtype is torch.bool else (output, Take(0, 1), Give(0))


def _resized(source: Tensor, output: Tensor) -> Sequence[Item]:
    """An output that begins as large as the input: it keeps that block, or is given a larger one."""
    copy = [] if source.is_contiguous() else [Take(1, _bytes(source))]
    back = [Give(1) for _ in copy]
    if _bytes(output) <= _bytes(source):
        return Kept(output, _bytes(source)), *copy, *back
    return Take(0, _bytes(source)), *copy, output, Give(0), *back


def _reads_channels_last(op: Any, args: Sequence[Any]) -> bool:
    """Whether a backward pass has a kernel for the layout of its gradient, or of its input."""
    place = _READ_CHANNELS_LAST.get(op)
    if op is aten.upsample_bilinear2d_backward.default and list(args[1]) == list(args[2][-2:]):
        return True  # nothing is scaled: a copy
    return place is not None and args[place].is_contiguous(memory_format=torch.channels_last)


def _logsumexp(args: Sequence[Any], output: Tensor) -> Sequence[Item]:
    """The largest, twice, and which of them are infinite; exponentials; their sum, which is the output."""
    source, dims = args[:2]
    if not source.numel():
        return (output,)
    exponentials = torch.empty_like(source, device="meta")
    largest, sum_ = (of_dims(op, each, dims, output) for op, each in ((aten.amax, source), (aten.sum, exponentials)))
    return (
        *(Take(0, _bytes(output)), largest, Take(1, _bytes(output)), Take(2, output.numel()), Give(2), Give(1)),
        *(Take(3, _bytes(exponentials)), output, sum_, Give(3), Give(0)),
    )


def _of_losses(image: Tensor, output: Tensor) -> Reduction:
    """The reduction of losses that are laid out as the image."""
    return whole(torch.empty_like(image, device="meta"), output)


def _around(outputs: Sequence[Tensor | None], copied: Sequence[Tensor]) -> Sequence[Item]:
    """The outputs, then copies of the operands, which live until the call returns."""
    takes = [Take(number, _bytes(operand)) for number, operand in enumerate(copied)]
    return *outputs, *takes, *(Give(take.number) for take in reversed(takes))


def _is_outer(op: Any, args: Sequence[Any]) -> bool:
    """Whether columns are multiplied by rows, number by number, without cuBLAS."""
    return op is aten.bmm.default and args[0].shape[-1] == 1 and installed_release() >= _OUTER_SINCE


def _cublas_takes(matrix: Tensor) -> bool:
    """Whether cuBLAS reads a matrix, or a batch of them, where it is: a last stride is 1, the other spans.

    `prepare_matrix_for_cublas` and `prepare_batch_matrix_for_cublas` in ATen/native/cuda/Blas.cpp.
    """
    rows, columns = matrix.shape[-2:]
    down, across = matrix.stride()[-2:]
    if not matrix.numel() or (matrix.is_contiguous() and (matrix.dim() == 2 or (down and across))):
        return True
    return (across == 1 and down >= max(1, columns)) or (down == 1 and across >= max(1, rows))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
