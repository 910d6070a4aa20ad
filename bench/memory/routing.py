"""Which kernel PyTorch runs a convolution with on a card, and how its tensors lie then.

`_select_conv_backend` and `determine_backend_memory_format` in aten/src/ATen/native/Convolution.cpp; how tensors lie is
told by their shapes and strides, as c10/core/MemoryFormat.h does it.
"""

from __future__ import annotations

from bench.memory.convolution import Convolution, Ints

INT32_MAX = 2**31 - 1


def is_depthwise(call: Convolution) -> bool:
    """One filter or several per input channel (ConvParams::is_depthwise); of transposed convolutions none is."""
    channels = call.input_shape[1]
    return not call.is_transposed and channels == call.groups > 1 and call.weight_shape[0] % channels == 0


def has_own_kernel(call: Convolution) -> bool:
    """Whether PyTorch runs a call with a kernel of its own, which takes no workspace."""
    return is_depthwise(call) and call.dtype in ("float32", "float64") and not uses_cudnn(call)


def uses_cudnn(call: Convolution) -> bool:
    """Whether PyTorch hands a call to cuDNN (use_cudnn, use_cudnn_depthwise).

    A depthwise convolution goes there only channels last, or in NCHW if 32 bits cannot index it. In float16 NCHW some
    more do, by a list of measured cases that is not followed here: False, and their candidates are not known. bfloat16
    goes there from compute capability 8.0 on.
    """
    if call.dtype not in ("float16", "bfloat16", "float32", "float64") or len(call.input_shape) not in (4, 5):
        return False
    if 0 in (*call.input_shape, *call.output_shape):
        return False
    if not is_depthwise(call):
        return True
    fits = _fits_32_bits(call.input_shape, call.input_stride) and _fits_32_bits(call.weight_shape, call.weight_stride)
    channels_last = _is_handed_over_channels_last(call)
    return channels_last if fits else not channels_last


def as_handed_over(call: Convolution) -> Convolution:
    """The call as cuDNN gets it: all three tensors channels last, or all contiguous; it knows of none as transposed.

    Channels last if the input or the weight is (cudnn_conv_suggest_memory_format in aten/src/ATen/native/ConvUtils.h).
    """
    strides = channels_last if _is_handed_over_channels_last(call) else contiguous
    return call._replace(
        input_stride=strides(call.input_shape),
        weight_stride=strides(call.weight_shape),
        output_stride=strides(call.output_shape),
        is_transposed=False,
    )


def is_channels_last(shape: Ints, stride: Ints) -> bool:
    """As TensorImpl decides it (is_channels_last_strides_2d_s4 in c10/core/MemoryFormat.h)."""
    if stride[1] == 0:
        return False
    least = 0
    for dimension in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[dimension] == 0 or stride[dimension] < least:
            return False
        if dimension == 0 and least == stride[1]:  # N,1,1,1 and N,C,1,1 in NCHW
            return False
        least = stride[dimension] * max(shape[dimension], 1)
    return True


def contiguous(shape: Ints) -> Ints:
    """The strides of a tensor whose last dimension is the densest."""
    strides = [1]
    for size in shape[:0:-1]:
        strides.insert(0, strides[0] * size)
    return tuple(strides)


def channels_last(shape: Ints) -> Ints:
    """The strides of a tensor whose second dimension is the densest, then as `contiguous`."""
    batch, *space, channel = contiguous((shape[0], *shape[2:], shape[1]))
    return batch, channel, *space


def _is_handed_over_channels_last(call: Convolution) -> bool:
    return call.dtype != "float64" and (
        is_channels_last(call.input_shape, call.input_stride) or is_channels_last(call.weight_shape, call.weight_stride)
    )


def _fits_32_bits(shape: Ints, stride: Ints) -> bool:
    """As canUse32BitIndexMath decides it: the number of elements and the largest offset."""
    elements, offset = 1, 0
    for size, step in zip(shape, stride, strict=True):
        elements *= size
        offset += (size - 1) * step
    return elements <= INT32_MAX and offset <= INT32_MAX
