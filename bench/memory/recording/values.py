"""Values of tensors without data, as far as they can be known, and what is assumed where they cannot.

A storage whose content follows from the program alone, as of ones, arange, a comparison of these, or of what was
copied from the host, has a twin with data on the host, and every operation on such tensors is carried out on their
twins as well. What the program reads of them is then exact. Drawn at random, or computed from what was, nothing is
known: 0 is taken for it, as on the virtual card, and said in an AssumedValue with the line that reads it. Only that
such numbers are finite, and that a library's checks of what it is given hold (torch._is_all_true, and what
torch.distributions asks of all numbers), is taken to be true.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.recording import gradient_thread, places

aten = torch.ops.aten

_HERE, _DISTRIBUTIONS = (str(Path(file).parent) + os.sep for file in (__file__, torch.distributions.__file__))

MOST_BYTES = 2**28  # of integers and booleans
MOST_NUMBERS = 2**12  # of floating-point numbers

_READS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default}
_UNWRITTEN = {
    getattr(packet, overload)
    for packet in (aten.empty, aten.empty_like, aten.new_empty, aten.empty_strided, aten.new_empty_strided)
    for overload in packet.overloads()
}
_WHATEVER_IT_IS_LIKE = {
    getattr(packet, overload)
    for packet in (aten.zeros_like, aten.ones_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full)
    for overload in packet.overloads()
    if overload == "default"
}
_OF_ALL_OR_ANY = {aten.all.default, aten.any.default}
_GO_ON = {aten.mul.Tensor, aten.all.default, aten.logical_and.default, aten.bitwise_and.Tensor}
_OVERWRITES = {aten.zero_.default, aten.fill_.Scalar, aten.fill_.Tensor, aten.copy_.default}


class AssumedValue(UserWarning):
    """A value that the program reads and nobody knows: what was taken for it.

    Attributes:
        place: The user's line, as bench.memory.recording.places tells it.
    """

    def __init__(self, what: str, place: str) -> None:
        super().__init__(f"{what} ({place})" if place else what)
        self.what = what
        self.place = place


class Read(NamedTuple):
    """Bytes that a step brings to the host: how many, and which; None if they are not known."""

    size_bytes: int
    content: bytes | None


_noted: ContextVar[list[Read] | None] = ContextVar("reads", default=None)


@contextmanager
def reads_noted() -> Iterator[list[Read]]:
    """What a recording made within this context reads, in order."""
    reads: list[Read] = []
    token = _noted.set(reads)
    try:
        yield reads
    finally:
        _noted.reset(token)


class Values:
    """What is known of the tensors of one recording."""

    def __init__(self) -> None:
        self._noted = _noted.get()
        self._twins: dict[int, Tensor] = {}  # by the storage's address: all of it, in one dimension
        self._holding: set[int] = set()  # addresses of storages that say what is taken to be true

    def forget(self, address: int) -> None:
        """A storage is gone."""
        self._twins.pop(address, None)
        self._holding.discard(address)

    def answer(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any] | None:
        """What a call that brings values to the host gives, in a tuple; None if `func` is no such call on these."""
        if func in _READS:
            metas = [value for value in args if _is_meta(value)]
            known = [self.of(value) if _is_meta(value) else value for value in args]
            if not metas:
                return None
            if all(each is not None for each in known):
                number = func(*known)
                self._note_number(func, args, number)
                return (number,)
            holds = metas[0].untyped_storage()._cdata in self._holding
            number = _assumed_number(func, metas[0], holds)
            self._note_number(func, args, number or None)
            return (number,)
        if func is aten._to_copy.default:
            device = kwargs.get("device")
            if device is None or device.type != "cpu" or not _is_meta(args[0]):
                return None
            return (func(self._on_host(args[0]), **kwargs),)
        if func is aten.copy_.default and _is_meta(args[1]) and not _is_meta(args[0]):
            return (args[0].copy_(self._on_host(args[1])),)
        return None

    def note(self, size_bytes: int, content: bytes | None) -> None:
        """The step brings bytes to the host."""
        if self._noted is not None and size_bytes:
            self._noted.append(Read(size_bytes, content))

    def _note_number(self, func: Any, args: Sequence[Any], number: Any) -> None:
        compares = func is aten.equal.default
        if self._noted is None or (compares and (args[0].shape != args[1].shape or not args[0].numel())):
            return
        dtype = torch.bool if compares else args[0].dtype
        self.note(dtype.itemsize, None if number is None else _bytes(torch.tensor([number], dtype=dtype)))

    def _on_host(self, tensor: Tensor) -> Tensor:
        known = self.of(tensor)
        self.note(tensor.numel() * tensor.element_size(), None if known is None else _bytes(known))
        return _zeros(tensor) if known is None else known

    def of(self, tensor: Tensor) -> Tensor | None:
        """The tensor with its data, if that is known: a view of its storage's twin."""
        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        storage = tensor.untyped_storage()
        twin = self._twins.get(storage._cdata)
        if twin is None or twin.dtype is not tensor.dtype or twin.nbytes != storage.nbytes():
            return None  # not known, as other numbers, or before the storage had another size
        return twin.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def tell(self, tensor: Tensor, known: Tensor | None) -> None:
        """What a tensor without data has in it, if that is known."""
        if known is not None and _is_small(tensor):
            self._keep(tensor, known)

    def follow(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """After a call on tensors without data: what is known of what it gave or wrote."""
        if self._holds(func, args):
            self._holding.add(result.untyped_storage()._cdata)
            return
        outputs = result if isinstance(result, (list, tuple)) else (result,)
        written = [value for argument, value in zip(func._schema.arguments, args, strict=False) if argument.is_write]
        makes_its_own = func in _OVERWRITES or func in _WHATEVER_IT_IS_LIKE
        if not self._twins and not makes_its_own and (written or any(_is_meta(value) for value in args)):
            return
        targets = _tensors(written or outputs)
        if not targets or not all(map(_is_small, targets)):
            self._lose(written)
            return
        twins = self._carried_out(func, args, kwargs, bool(written))
        if twins is None:
            self._lose(written)
        elif not written:
            for output, twin in zip(outputs, twins, strict=False):
                if _is_meta(output) and isinstance(twin, Tensor):
                    self._keep(output, twin)

    def _holds(self, func: Any, args: Sequence[Any]) -> bool:
        """Whether a call asks what is taken to be true, or goes on with the answer."""
        if func is aten._is_all_true.default or (func in _OF_ALL_OR_ANY and _asked_by_a_distribution(func)):
            return self.of(args[0]) is None
        if func is aten.eq.Tensor:
            return args[0] is args[1] and self.of(args[0]) is None
        if func is aten.ne.Scalar:
            return args[1] == math.inf and _is_meta(args[0]) and self.of(args[0]) is None
        if func in _GO_ON:
            tensors = [value for value in args if isinstance(value, Tensor)]
            return all(value.untyped_storage()._cdata in self._holding for value in tensors)
        return False

    def _carried_out(self, func: Any, args: Any, kwargs: Any, writes: bool) -> Sequence[Any] | None:
        """The results of a call on twins; None if something in it is not known."""
        if func in _UNWRITTEN or torch.Tag.nondeterministic_seeded in func.tags:
            return None
        if self._overwrites(func, args) and _is_meta(args[0]) and self.of(args[0]) is None and _fills(args[0]):
            self._keep(args[0], torch.zeros(args[0].shape, dtype=args[0].dtype))
        if func in _WHATEVER_IT_IS_LIKE:
            args = (torch.empty_strided(args[0].shape, args[0].stride(), dtype=args[0].dtype), *args[1:])
        try:
            known = [self._known(value) for value in args]
            named = {name: self._known(value) for name, value in kwargs.items()}
            result = func(*known, **named)
        except (_UnknownError, NotImplementedError, RuntimeError, IndexError):
            return None
        return result if isinstance(result, (list, tuple)) else (result,)

    def _overwrites(self, func: Any, args: Any) -> bool:
        """Whether nothing is left of what was there, as where a permutation is turned round."""
        if func is not aten.scatter_.src:
            return func in _OVERWRITES
        places = self.of(args[2])
        return args[0].dim() == 1 and places is not None and len(places.unique()) == len(args[0])

    def _known(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            known = self.of(value) if value.is_meta else value
            if known is None:
                raise _UnknownError
            return known
        if isinstance(value, (list, tuple)):
            return [self._known(each) for each in value]
        if isinstance(value, torch.device):
            return torch.device("cpu")
        return value

    def _keep(self, tensor: Tensor, twin: Tensor) -> None:
        storage = tensor.untyped_storage()
        if _fills(tensor):
            whole = torch.empty(tensor.numel(), dtype=tensor.dtype)
            whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(twin)
            self._twins[storage._cdata] = whole

    def _lose(self, written: Any) -> None:
        for tensor in _tensors(written):
            self._twins.pop(tensor.untyped_storage()._cdata, None)


class _UnknownError(Exception):
    """A value that is not known."""


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _tensors(value)
        elif _is_meta(value):
            found.append(value)
    return found


def _is_small(tensor: Tensor) -> bool:
    inexact = tensor.is_floating_point() or tensor.is_complex()
    return tensor.numel() <= MOST_NUMBERS if inexact else tensor.numel() * tensor.element_size() <= MOST_BYTES


def _bytes(tensor: Tensor) -> bytes:
    """A tensor's elements as they lie in memory once it is contiguous."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _fills(tensor: Tensor) -> bool:
    """Whether the tensor is all of its storage."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _assumed_number(func: Any, tensor: Tensor, holds: bool) -> Any:
    if holds:
        value: Any = True
    else:
        value = False if func is not aten._local_scalar_dense.default else torch.zeros((), dtype=tensor.dtype).item()
    warnings.warn(AssumedValue(f"a value that the step reads is taken as {value}", place()), stacklevel=2)
    return value


def _asked_by_a_distribution(func: Any) -> bool:
    """Whether torch.distributions asks if all numbers are in their domain, or any that it drew is accepted.

    What else it asks of any is whether one is wrong.
    """
    frame: FrameType = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_HERE):
        assert frame.f_back  # the program has begun elsewhere
        frame = frame.f_back
    if not frame.f_code.co_filename.startswith(_DISTRIBUTIONS):
        return False
    return func is aten.all.default or frame.f_code.co_name == "_rejection_sample"


def _zeros(tensor: Tensor) -> Tensor:
    what = "what the step copies to the host is taken as 0"
    warnings.warn(AssumedValue(what, place()), stacklevel=2)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


def place() -> str:
    """The user's line that runs."""
    return places.line_of(gradient_thread.stack())
