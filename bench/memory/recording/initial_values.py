"""Initial values of models that are built on the host are not drawn: nobody reads what they will be.

A recording builds a model for each batch that it looks at. Large tensors on the host are zeros in place of what would
be drawn at random, and the arithmetic that follows in place is left out. The largest are not even written to: the
system gives zeros for them, and need not provide memory, so that a model may be larger than the host.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

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


class NotDrawn:
    """Which tensors on the host have no values yet."""

    def __init__(self) -> None:
        self._storages: dict[int, weakref.ref[Any]] = {}

    def passes_over(self, func: Any, args: Sequence[Any]) -> bool:
        """Whether a call would draw or change such values, in place, and is left out."""
        draws = id(func) in _DRAWS
        if not draws and not (self._storages and id(func) in _GO_ON):
            return False
        tensor = args[0]
        if not tensor.is_cpu:
            return False
        storage = tensor.untyped_storage()
        address = storage._cdata
        if not draws:
            return address in self._storages
        if tensor.numel() <= MOST_NUMBERS:
            return False
        if storage.nbytes() < MAPPED_BYTES:
            tensor.zero_()
        self._storages[address] = weakref.ref(storage, lambda _: self._storages.pop(address, None))
        return True


@contextmanager
def nothing_rejected(is_active: Callable[[], bool]) -> Iterator[None]:
    """Within this context, truncated normal values are drawn as any: PyTorch rejects what is outside until none is."""
    draw = nn.init._no_grad_trunc_normal_

    def fill(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if is_active() and tensor.is_cpu and tensor.numel() > MOST_NUMBERS:
            with torch.no_grad():
                return tensor.uniform_()
        return draw(tensor, *args, **kwargs)

    with patch.object(nn.init, "_no_grad_trunc_normal_", fill):
        yield
