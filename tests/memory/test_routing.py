"""Which layout a convolution is handed over in, against PyTorch's own decision on tensors of any strides."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bench.memory.routing import channels_last, contiguous, is_channels_last

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
