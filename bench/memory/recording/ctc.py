"""The CTC loss as PyTorch's own kernels for a GPU run it (ATen/native/cuda/LossCTC.cu); without data there are none.

The lengths are on the host, or come there: the longest target decides how large the table of the forward variables is,
[B, T, 2 L + 1]. cuDNN has a loss of its own, for some targets of type int32 in one row: it is refused.

Sources: https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/cuda/LossCTC.cu
and, when cuDNN is asked, https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/cudnn/LossCTC.cpp
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

from bench.memory.recording.composites import Give, Take
from bench.memory.recording.refusals import NotRecordableError

aten = torch.ops.aten

_LENGTH_BYTES = 8
_LONGEST_OF_CUDNN = 255
_MOST_OF_ONE_KERNEL = 450  # of frames, sequences and classes, each with its weight, for a gradient in one kernel


@contextlib.contextmanager
def ctc_without_data() -> Iterator[None]:
    """Within this context the CTC loss and its gradient take tensors without data."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_ctc_loss", _forward, "Meta")
    library.impl("_ctc_loss_backward", _backward, "Meta")
    library.impl("ctc_loss.Tensor", _by_lists, "AutogradMeta")
    library.impl("ctc_loss.IntList", _of_lists, "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


def _by_lists(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int = 0, *options: Any
) -> Tensor:
    """On a card the lengths are read from the host; of tensors without data PyTorch asks for another kernel."""
    inputs, outputs = (each.cpu().flatten().tolist() for each in (input_lengths, target_lengths))
    if input_lengths.dtype is target_lengths.dtype is torch.int32 and log_probs.dim() == 3:
        _refuse_cudnn(log_probs, targets, inputs, outputs, blank)
    loss: Tensor = aten.ctc_loss.IntList(log_probs, targets, inputs, outputs, blank, *options)
    return loss


def _of_lists(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    blank: int = 0,
    *options: Any,
) -> Tensor:
    """PyTorch's own function, where cuDNN is not asked."""
    if targets.device.type == "cpu" and all(length == log_probs.shape[0] for length in input_lengths):
        _refuse_cudnn(log_probs, targets, input_lengths, target_lengths, blank)
    loss: Tensor = aten.ctc_loss.IntList._op_dk(
        DispatchKey.CompositeImplicitAutograd, log_probs, targets, input_lengths, target_lengths, blank, *options
    )
    return loss


def _forward(
    log_probs: Tensor, targets: Tensor, input_lengths: Sequence[int], target_lengths: Sequence[int], *options: Any
) -> tuple[Tensor, Tensor]:
    """The losses [B] and the forward variables [B, T, 2 L + 1] of log_probs [T, B, classes].

    Of lengths that nobody knows, which are 0 all, L is the most that there can be.
    """
    frames, batch = log_probs.shape[:2]
    longest = max(target_lengths, default=0) or targets.shape[-1]
    return log_probs.new_empty(batch), log_probs.new_empty(batch, frames, 2 * longest + 1)


def _refuse_cudnn(
    log_probs: Tensor, targets: Tensor, input_lengths: Sequence[int], target_lengths: Sequence[int], blank: int
) -> None:
    """Refuse what goes to cuDNN on a card, if lengths and targets are of the kind and in the place for it.

    Raises:
        NotRecordableError: it does.
    """
    is_enabled = torch.backends.cudnn.enabled and blank == 0
    is_of_cudnn = is_enabled and (log_probs.dtype, targets.dtype, targets.dim()) == (torch.float32, torch.int32, 1)
    pairs = zip(input_lengths, target_lengths, strict=True)
    if is_of_cudnn and all(target <= min(given, _LONGEST_OF_CUDNN) for given, target in pairs):
        raise NotRecordableError(
            "cuDNN computes this CTC loss, of targets in one row of type int32, and what it takes is not known: "
            "give targets of type int64, or in rows"
        )


def _backward(gradient: Tensor, log_probs: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(log_probs, memory_format=torch.contiguous_format)


def _of_loss(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """Where each target begins, and the lengths, are copied to the card; losses after the forward variables."""
    losses, alpha = outputs
    return *_lengths(losses), alpha, losses, *_GIVEN


def _of_gradient(args: Sequence[Any], outputs: Sequence[Tensor]) -> Sequence[Any]:
    """The same three, and backward variables as large as the forward ones.

    Of long or many sequences the blanks come first, by operations of tensors: every second variable of both, summed,
    and its logsumexp over the places [B, T].
    """
    log_probs, losses, alpha = args[1], args[5], args[6]
    (frames, batch, classes), width = log_probs.shape, alpha.element_size()
    places, blanks = batch * frames, batch * frames * (alpha.shape[2] // 2 + 1)
    of_blanks = (
        *(Take(4, blanks * width), Take(5, places * width), Take(6, places * width), Take(7, places)),
        *(Give(6), Give(7), Take(8, blanks * width), Take(9, places * width), Give(8), Give(5), Give(4), Give(9)),
    )
    is_large = 2 * frames + 24 * batch // 10 + 2 * classes // 10 > _MOST_OF_ONE_KERNEL
    return (
        *(*_lengths(losses), Take(3, alpha.numel() * width), *outputs),
        *(of_blanks if is_large else ()),
        *(Give(3), *_GIVEN),
    )


def _lengths(losses: Tensor) -> list[Take]:
    return [Take(number, _LENGTH_BYTES * losses.numel()) for number in range(3)]


_GIVEN = (Give(1), Give(0), Give(2))

RULES = {
    aten._ctc_loss.default: _of_loss,
    aten._ctc_loss_backward.default: _of_gradient,
}
