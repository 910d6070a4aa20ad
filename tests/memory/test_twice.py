"""The gradients of a convolution's gradients, number by number as PyTorch computes them on the host."""

import itertools

import pytest
import torch

from bench.memory.recording.recorder import events_of
from bench.memory.recording.twice import double_backward

# Channels of the image and of the result, kernel, length of the image; stride, padding, dilation; groups.
FORMS = {
    "plain": ((3, 4), (3, 3), (7, 8), (1, 1), (0, 0), (1, 1), 1),
    "strides": ((3, 4), (3, 2), (8, 9), (2, 3), (1, 0), (1, 1), 1),
    "dilated": ((2, 3), (2, 3), (9, 11), (1, 2), (2, 1), (3, 2), 1),
    "one of length": ((2, 3), (3, 3), (3, 3), (2, 2), (0, 0), (1, 1), 1),
    "groups": ((4, 6), (3, 3), (6, 7), (1, 2), (1, 1), (1, 1), 2),
    "signal": ((3, 4), (3,), (9,), (2,), (1,), (2,), 1),
    "volume": ((2, 3), (2, 2, 3), (4, 5, 5), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1),
}
GIVEN = [given for given in itertools.product((True, False), repeat=3) if any(given)]


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_gradient_is_pytorchs(form, is_transposed):
    channels, kernel, lengths, stride, padding, dilation, groups = FORMS[form]
    drawn = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=drawn)

    image = rand(2, channels[0], *lengths)
    of_weight = (channels[0], channels[1] // groups) if is_transposed else (channels[1], channels[0] // groups)
    weight = rand(*of_weight, *kernel)
    more = [int(is_transposed and max(each) > 1) for each in zip(stride, dilation, strict=True)]
    options = stride, padding, dilation, is_transposed, more, groups
    gradient = rand(*torch.ops.aten.convolution(image, weight, None, *options).shape)
    offered = rand(*image.shape), rand(*weight.shape), rand(channels[1])
    for given in GIVEN:
        others = [each if is_given else None for each, is_given in zip(offered, given, strict=True)]
        args = *others, gradient, weight, image, *options, [True, True, True]
        found, right = double_backward(*args), torch.ops.aten._convolution_double_backward(*args)
        for one, other in zip(found, right, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


def test_a_product_is_given_back_before_the_bias_is_added():
    """Of the image and the weight's gradient: at the last sum there is only what it is added to (Convolution.cpp)."""

    def make_step(batch, device):
        image, weight, bias = (torch.empty(shape, device=device) for shape in ((2, 3, 9, 9), (4, 3, 3, 3), (4,)))
        gradient = torch.empty(2, 4, 7, 7, device=device)
        options = [1, 1], [0, 0], [1, 1], False, [0, 0], 1

        def step():
            with torch.no_grad():
                double_backward(image, weight, bias, gradient, weight, image, *options, [True, False, False])

        return step

    events = events_of(make_step, 1, 1)
    *_, last_sum = (place for place, event in enumerate(events) if event.op == "aten.add.Tensor")
    sizes = {event.key: event.size_bytes for event in reversed(events) if event.size_bytes > 0}
    freed = {event.key for event in events[:last_sum] if event.is_free}
    held = {event.key for event in events[:last_sum] if event.size_bytes > 0} - freed
    assert [sizes[key] for key in sorted(held)].count(4 * 2 * 4 * 7 * 7) == 2  # the gradient itself, and the sum
