"""Which layout a convolution is handed over in, against PyTorch's own decision on tensors of any strides."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bench.memory.convolution import Convolution
from bench.memory.routing import channels_last, contiguous, has_own_kernel, is_channels_last

STRIDES = st.integers(0, 40)


def is_suggested(shape, stride):
    """Whether PyTorch would make the result of an upsampling channels last: it asks its input for that."""
    image = torch.empty_strided(shape, stride)  # not "meta", where Python decides anew
    made = torch.ops.aten.upsample_nearest2d.default(image, [3, 2])
    return made.stride() == channels_last(tuple(made.shape))


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(STRIDES, STRIDES, STRIDES, STRIDES),
)
@example(shape=(2, 3, 4, 5), stride=(60, 1, 15, 3))
@example(shape=(2, 3, 4, 5), stride=(60, 20, 5, 1))
@example(shape=(2, 3, 4, 5), stride=(60, 0, 15, 3))  # one channel for all
@example(shape=(2, 3, 1, 1), stride=(3, 1, 3, 3))
@example(shape=(2, 1, 1, 1), stride=(1, 1, 1, 1))
@example(shape=(2, 1, 1, 4), stride=(4, 1, 4, 1))
@example(shape=(2, 3, 4, 5), stride=(60, 1, 15, 2))
@example(shape=(2, 3, 4, 5), stride=(59, 1, 15, 3))
@example(shape=(2, 1, 3, 1), stride=(3, 1, 1, 1))
@example(shape=(2, 1, 1, 1), stride=(2, 2, 2, 2))
def test_channels_last_is_what_pytorch_takes_for_it(shape, stride):
    assert is_channels_last(shape, stride) == is_suggested(shape, stride)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 1, 1, 9), (1, 6, 2, 1)])
def test_strides_are_those_of_new_tensors(shape):
    assert contiguous(shape) == torch.empty(shape, device="meta").stride()
    made = torch.empty(shape, device="meta", memory_format=torch.channels_last)
    assert channels_last(shape) == made.stride()


@pytest.mark.parametrize(
    ("channels", "features", "groups", "is_own"),
    [  # a filter or several per channel, of two channels and more
        (1, 1, 1, False),
        (2, 2, 2, True),
        (3, 6, 3, True),
        (4, 4, 2, False),
        (4, 6, 4, False),
        (64, 64, 1, False),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_depthwise_convolutions_have_a_kernel_of_pytorchs_own(channels, features, groups, is_own, dtype):
    shapes = (2, channels, 8, 8), (features, channels // groups, 3, 3), (2, features, 8, 8)
    whole = [part for shape in shapes for part in (shape, contiguous(shape))]
    call = Convolution("fprop", *whole, (1, 1), (1, 1), (1, 1), groups, dtype)
    assert has_own_kernel(call) is is_own
    assert not has_own_kernel(call._replace(is_transposed=True))
    assert not has_own_kernel(call._replace(dtype="bfloat16"))
