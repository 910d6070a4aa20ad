"""Optimisers without data choose their kernels as on a GPU.

PyTorch's optimisers and gradient clipping ask for the type of the device: on a GPU they work on lists of tensors
(foreach) by default, which takes temporaries as large as all parameters, or on request in one kernel (fused).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch

from bench.memory.recording import normalising
from bench.memory.recording.layouts import suggested
from bench.memory.recording.twice import double_backward

_ASKED_FROM = ("torch.optim.optimizer", "torch.utils._foreach_utils")
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_NO_CLASSES = torch.empty(0, dtype=torch.int64)
_QUESTIONS = ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices")


@contextlib.contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    """Within this context the meta device counts as one that has these kernels."""
    with contextlib.ExitStack() as patches:
        for module in map(importlib.import_module, _ASKED_FROM):
            for question in _QUESTIONS:
                patches.enter_context(patch.object(module, question, _with_meta(getattr(module, question))))
        patches.enter_context(_composites_of_a_gpu())
        patches.enter_context(_kernels_of_their_own())
        yield


@contextlib.contextmanager
def _composites_of_a_gpu() -> Iterator[None]:
    """Operations that PyTorch writes by others, and by other others for a GPU.

    Dropout is one kernel, whose mask is of booleans (ATen/native/Dropout.cpp); a softmax of float16 with a result in
    float32 is one kernel, without a copy of its input (ATen/native/SoftMax.cpp).
    """
    aten = torch.ops.aten

    def dropout(image: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        if train and 0 < p < 1 and image.numel():
            output: torch.Tensor = aten.native_dropout.default(image, p, train)[0]
            return output
        unchanged: torch.Tensor = aten.dropout.default._op_dk(_COMPOSITE, image, p, train)
        return unchanged

    def softmax(name: str, kernel: Any) -> Callable[..., torch.Tensor]:
        operation = getattr(aten, name).int

        def call(image: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
            if image.dtype is torch.float16 and dtype is torch.float32:
                return kernel(image, dim, True)  # type: ignore[no-any-return]
            return operation._op_dk(_COMPOSITE, image, dim, dtype)  # type: ignore[no-any-return]

        return call

    def batch_norm(image: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, train: bool, *others: Any) -> Any:
        """Where cuDNN normalises, it keeps a contiguous copy for the backward pass (ATen/native/Normalization.cpp)."""
        if normalising.uses_cudnn(image, weight, bias):
            image = image.contiguous(memory_format=suggested(image))
        return aten.batch_norm.default._op_dk(_COMPOSITE, image, weight, bias, mean, var, train, *others)

    def cumprod_backward(gradient: torch.Tensor, source: torch.Tensor, dim: int, result: torch.Tensor) -> torch.Tensor:
        """A card looks whether there are zeros, and has a short formula without (ATen/native/ReduceOps.cpp)."""
        if source.numel() <= 1 or source.shape[dim] == 1:
            return gradient
        weighted = result.conj() * gradient
        is_zero = source == 0
        is_zero.any()  # whose value is read, and taken for no
        flipped = weighted.flip(dim)
        summed = flipped.cumsum(dim)
        total = summed.flip(dim)
        del flipped, summed  # which live until then
        return total.div(source.conj())

    library = torch.library.Library("aten", "IMPL")
    library.impl("cumprod_backward", cumprod_backward, "AutogradMeta")
    library.impl("batch_norm", batch_norm, "AutogradMeta")
    library.impl("_convolution_double_backward", double_backward, "AutogradMeta")
    library.impl("dropout", dropout, "AutogradMeta")
    library.impl("softmax.int", softmax("softmax", aten._softmax.default), "AutogradMeta")
    library.impl("log_softmax.int", softmax("log_softmax", aten._log_softmax.default), "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


@contextlib.contextmanager
def _kernels_of_their_own() -> Iterator[None]:
    """Operations that PyTorch writes by others on tensors without data, and has a kernel for on a card."""

    def rms_norm(
        image: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = image.shape[: image.dim() - len(shape)]
        number = image.dtype if image.dtype is torch.float64 else torch.float32
        return torch.empty_like(image), image.new_empty((*rows, *(1 for _ in shape)), dtype=number)

    def mish_backward(gradient: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(image)

    def one_hot(classes: torch.Tensor, number: int = -1) -> torch.Tensor:
        """As on a card (ATen/native/Onehot.cpp), where it is no comparison."""
        if number == -1 and classes.numel():
            number = int(classes.max()) + 1
        if number <= 0:
            torch.ops.aten.one_hot.default(_NO_CLASSES, number)  # which PyTorch refuses
        return classes.new_zeros((*classes.shape, number)).scatter_(-1, classes.unsqueeze(-1), 1)

    library = torch.library.Library("aten", "IMPL")
    assert library.m is not None
    library.impl("one_hot", one_hot, "AutogradMeta")
    for name, kernel in (("_fused_rms_norm", rms_norm), ("mish_backward", mish_backward)):
        library.m.impl(name, "Meta", kernel, False)  # Library.impl refuses operations that are written by others
    try:
        yield
    finally:
        library._destroy()


def _with_meta(devices: Callable[[], list[str]]) -> Callable[[], list[str]]:
    return lambda: [*devices(), "meta"]
