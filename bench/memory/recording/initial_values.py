"""Initial values of models that are built on the host are not drawn: nobody reads what they will be.

A recording builds a model for each batch that it looks at. Large tensors on the host are zeros in place of what would
be drawn at random; arithmetic that follows in place is left out, and copies, as of another type, are such tensors too.
They are not even written to: the system gives zeros for them, and need not provide memory, so that a model may be
larger than the host.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.memory.recording.values import AssumedValue

aten = torch.ops.aten

MOST_NUMBERS = 2**12  # of tensors that are drawn as ever
MAPPED_BYTES = 2**26  # from here on, memory comes from the system, as zeros, and goes back to it

_DRAWS = {id(func): func for func in (aten.uniform_.default, aten.normal_.default)}
_GO_ON = {
    id(func): func
    for func in (
        *(aten.erfinv_.default, aten.clamp_.default, aten.clamp_.Tensor),
        *(aten.mul_.Tensor, aten.mul_.Scalar, aten.div_.Tensor, aten.div_.Scalar),
        *(aten.add_.Tensor, aten.add_.Scalar, aten.sub_.Tensor, aten.sub_.Scalar),
    )
}
_COPIES = {id(func): func for func in (aten._to_copy.default, aten.clone.default)}


class NotDrawn:
    """Which tensors on the host have no values yet."""

    def __init__(self) -> None:
        self._storages: dict[int, weakref.ref[Any]] = {}

    def answer(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """What a call gives that would draw, change or copy such values, and is left out; None for any other."""
        draws = id(func) in _DRAWS
        if not draws and not (self._storages and (id(func) in _GO_ON or id(func) in _COPIES)):
            return None
        tensor = args[0]
        if not tensor.is_cpu:
            return None
        if draws:
            return self._zeros(tensor) if tensor.numel() > MOST_NUMBERS else None
        if tensor.untyped_storage()._cdata not in self._storages:
            return None
        return self._copy(tensor, **kwargs) if id(func) in _COPIES else tensor

    def _zeros(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if storage.nbytes() < MAPPED_BYTES and not _gave_back(tensor):
            tensor.zero_()
        self._storages[address] = weakref.ref(storage, lambda _: self._storages.pop(address, None))
        return tensor

    def _copy(self, tensor: Tensor, non_blocking: bool = False, **options: Any) -> Tensor | None:
        """A copy of its own on the host, of another type if that is asked for; None where it goes elsewhere."""
        device = options.get("device")
        if device is not None and device.type != "cpu":
            return None
        return self._zeros(aten.empty_like.default(tensor, **options))


def _gave_back(tensor: Tensor) -> bool:
    """Whether the system took back a tensor's pages, for which it gives zeros when they are next read.

    It does on Linux (madvise), where they are the tensor's alone; zeros are written to what is left of the first and
    the last page.
    """
    storage = tensor.untyped_storage()
    if sys.platform != "linux" or storage.nbytes() != tensor.nbytes or storage.is_shared():
        return False
    begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first >= last or _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED):
        return False
    ctypes.memset(begin, 0, first - begin)
    ctypes.memset(last, 0, end - last)
    return True


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@contextmanager
def nothing_rejected(is_active: Callable[[], bool]) -> Iterator[None]:
    """Within this context, truncated normal values are drawn as any: PyTorch rejects what is outside until none is.

    On the card that a recording stands for, none is outside at once, and it is not said that PyTorch asks.
    """
    draw = nn.init._no_grad_trunc_normal_

    def fill(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if is_active() and tensor.is_cpu and tensor.numel() > MOST_NUMBERS:
            with torch.no_grad():
                return tensor.uniform_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumedValue)
            return draw(tensor, *args, **kwargs)

    with patch.object(nn.init, "_no_grad_trunc_normal_", fill):
        yield
