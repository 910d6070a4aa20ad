"""What convolutions do on a card: which kernel runs them, how results lie, which arguments are copied first.

Without data PyTorch has one formula for all; on a card each kernel wants its tensors in one layout, and copies those
that lie otherwise (in aten/src/ATen/native: Convolution.cpp, cudnn/ConvShared.cpp, cuda/DepthwiseConv2d.cu):

| kernel | layout | allocates, in this order |
|---|---|---|
| cuDNN, forward | channels last if image or weight is | output; a copy of the weight; workspace |
| gradient for the image | as gradient and weight | grad_input; copies of weight and gradient; workspace |
| gradient for the weight | as image and gradient | copies of gradient and image; grad_weight; workspace |
| PyTorch's own, depthwise | contiguous | copies; output, grad_weight before grad_input |

The layout of two tensors together is channels last if one of them is, and both are of float32 or halves; else
contiguous. A transposed convolution is the gradient for the image of another, whose forward pass is its gradient.
Before all of this, the image is copied into the layout of image and weight, the gradient into the image's. A signal is
an image of one row, and contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.convolution import Convolution, Direction
from bench.memory.recording.composites import Give, Take
from bench.memory.recording.layouts import empty, layout_of, without_data
from bench.memory.recording.reducing import summed
from bench.memory.routing import is_depthwise, uses_cudnn

aten = torch.ops.aten

OPS = {aten.convolution.default, aten.convolution_backward.default}


class Temporary(NamedTuple):
    """Memory that a kernel takes and gives back before it returns: at most `most_bytes`.

    `call` tells which convolution takes it, so that cuDNN can be asked how much it is.
    """

    most_bytes: int
    call: Convolution | None = None


def allocations(op: Any, args: Sequence[Any], outputs: Sequence[Any]) -> Sequence[Any]:
    """What a convolution, or its backward pass, allocates and frees, in order."""
    if not all(each.numel() for each in args if isinstance(each, Tensor)):
        return outputs
    if op is aten.convolution.default:
        run = _Run(args[3:])
        run.forward(without_data(args[0]), without_data(args[1]), outputs[0])
        return run.items
    run = _Run(args[4:])
    gradient, image, weight = map(without_data, args[:3])
    run.backward(gradient, image, weight, outputs)
    if outputs[2] is None:
        return run.items
    return *run.items, outputs[2], summed(args[0], (0, *range(2, args[0].dim())), outputs[2])


class _Run:
    """Carries out a convolution on tensors without data, and notes in `items` what its kernels allocate.

    Args:
        options: those of aten::convolution, from `stride` on.
    """

    def __init__(self, options: Sequence[Any]) -> None:
        self.items: list[Any] = []
        self._stride, self._padding, self._dilation, self._is_transposed, self._more, self._groups = options[:6]

    def forward(self, image: Tensor, weight: Tensor, output: Tensor) -> None:
        """The forward pass: image (N, C, H, W), weight; their result is `output`."""
        result = empty(without_data(output), layout_of(image, weight))
        with self._as_image(image) as image:
            weight, result = (_unsqueezed(each, image) for each in (weight, result))
            if self._is_own(image, weight, result):
                with self._copied(image, torch.contiguous_format), self._copied(weight, torch.contiguous_format):
                    self.items.append(output)
                return
            with self._copied(image, layout_of(image, weight)) as image:
                self.items.append(output)
                with self._copied(weight, layout_of(image, weight)) as weight:
                    self._note("dgrad" if self._is_transposed else "fprop", image, weight, result)

    def backward(self, gradient: Tensor, image: Tensor, weight: Tensor, outputs: Sequence[Tensor | None]) -> None:
        """The backward pass: the gradient of the result, image and weight; `outputs` are their gradients."""
        with self._as_image(image) as image:
            weight, gradient = (_unsqueezed(each, image) for each in (weight, gradient))
            if self._is_own(image, weight, gradient):
                self._own_backward(gradient, image, weight, outputs)
                return
            with (
                self._copied(image, layout_of(image, weight) if outputs[1] is not None else None) as image,
                self._copied(gradient, self._layout_of_gradient(gradient, image)) as gradient,
            ):
                if outputs[0] is not None:
                    self.items.append(outputs[0])
                    layout = layout_of(gradient, weight)
                    with self._copied(weight, layout) as laid, self._copied(gradient, layout) as given:
                        like = empty(image, layout)
                        self._note("fprop" if self._is_transposed else "dgrad", like, laid, given)
                if outputs[1] is not None:
                    layout = layout_of(image, gradient)
                    with self._copied(gradient, layout) as given, self._copied(image, layout) as image:
                        self.items.append(outputs[1])
                        self._note("wgrad", image, empty(weight, layout), given)

    def _layout_of_gradient(self, gradient: Tensor, image: Tensor) -> torch.memory_format | None:
        """What a gradient is copied into first; None where a formula takes one that lies nearly so."""
        layout = layout_of(image, image)
        return layout if self._is_transposed or layout_of(gradient, gradient) is not layout else None

    def _own_backward(self, gradient: Tensor, image: Tensor, weight: Tensor, outputs: Sequence[Tensor | None]) -> None:
        """Of a depthwise convolution, by PyTorch's own kernels."""
        with self._copied(gradient, torch.contiguous_format):
            if outputs[1] is not None:
                with self._copied(image, torch.contiguous_format):
                    self.items.append(outputs[1])
            if outputs[0] is not None:
                with self._copied(weight, torch.contiguous_format):
                    self.items.append(outputs[0])

    @contextmanager
    def _copied(self, tensor: Tensor, layout: torch.memory_format | None) -> Iterator[Tensor]:
        """The tensor in a layout: itself if it lies so or None is asked for, or a copy for as long as the context."""
        laid = tensor if layout is None else tensor.contiguous(memory_format=layout)
        if laid is tensor:
            yield tensor
            return
        number = sum(isinstance(item, Take) for item in self.items)
        self.items.append(Take(number, _bytes(tensor)))
        yield laid
        self.items.append(Give(number))

    @contextmanager
    def _as_image(self, image: Tensor) -> Iterator[Tensor]:
        """An image as it is; a signal (N, C, W) made contiguous, as an image of one row."""
        if image.dim() != 3:
            yield image
            return
        with self._copied(image, torch.contiguous_format) as image:
            yield image.unsqueeze(2)

    def _is_own(self, image: Tensor, weight: Tensor, output: Tensor) -> bool:
        call = self._call("fprop", image, weight, output)
        return is_depthwise(call) and not uses_cudnn(call)

    def _note(self, direction: Direction, image: Tensor, weight: Tensor, output: Tensor) -> None:
        """Note the workspace of a kernel, whose three tensors lie as it wants them."""
        if self._is_transposed:
            image, output = output, image
        is_of_cudnn = not any(more >= step for more, step in zip(self._more, self._stride, strict=False))
        call = self._call(direction, image, weight, output) if is_of_cudnn else None
        self.items.append(Temporary(_bytes(image) + _bytes(output), call))

    def _call(self, direction: Direction, image: Tensor, weight: Tensor, output: Tensor) -> Convolution:
        one = [1] * (image.dim() - 2 - len(self._stride))
        return Convolution(
            direction,
            *(tuple(image.shape), image.stride()),
            *(tuple(weight.shape), weight.stride()),
            *(tuple(output.shape), output.stride()),
            (*(0 for _ in one), *self._padding),
            (*one, *self._stride),
            (*one, *self._dilation),
            self._groups,
            str(image.dtype).removeprefix("torch."),
            self._is_transposed,
        )


def _unsqueezed(tensor: Tensor, image: Tensor) -> Tensor:
    """The weight or the result of a signal's convolution as an image's."""
    return tensor if tensor.dim() == image.dim() else tensor.unsqueeze(2)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
