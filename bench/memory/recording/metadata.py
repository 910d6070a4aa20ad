"""What operations do to tensors without data, remembered.

Shape inference of a convolution takes PyTorch some 200 us of Python, and a network repeats the same few dozen
calls thousands of times. What a call does to metadata is a function of its arguments' metadata: the first one is run,
its repetitions are made from memory.
"""

from __future__ import annotations

import functools
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.memory.recording.composites import Plan, run


class Effect(Enum):
    """What an operation does to memory, as its schema tells."""

    VIEWS = auto()  # returns views of its arguments: allocates nothing
    WRITES = auto()  # writes into arguments and returns them, or nothing
    ALLOCATES = auto()  # returns new tensors
    UNKNOWN = auto()  # changes the metadata or the size of its arguments, or returns something else


class _Metadata(NamedTuple):
    """Of a tensor without data."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self) -> Tensor:
        """A new tensor with this metadata and a storage of its own."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


class _NotDescribedError(Exception):
    """An argument is more than metadata: a host tensor with values, a generator, ..."""


class OutputCache:
    """Calls operations on tensors without data, running each combination of metadata once.

    That once is on stand-ins: the Python code behind shape inference may hold on to its arguments, and the step's
    own tensors must die when the step lets them.
    """

    def __init__(self) -> None:
        _import_shape_inference()
        self._effects: dict[int, tuple[Effect, Any]] = {}  # by id: an operation's own hash is slow Python
        self._results: dict[Any, _Known] = {}

    def effect(self, func: Any) -> Effect:
        """What `func` does to memory."""
        known = self._effects.get(id(func))
        if known is None:
            known = self._effects[id(func)] = (_effect(func), func)
        return known[0]

    def call(self, func: Any, effect: Effect, args: Any, kwargs: Any) -> tuple[Any, Plan | None]:
        """The result of `func`, of that effect, on these arguments; and what it allocates, where that is more."""
        if effect is not Effect.ALLOCATES and effect is not Effect.WRITES:
            return func(*args, **kwargs), None
        try:
            described = tuple([_describe(value) for value in args]), {k: _describe(v) for k, v in kwargs.items()}
        except _NotDescribedError:
            return func(*args, **kwargs), None
        key = (id(func), described[0], *described[1].items())
        known = self._results.get(key)
        if known is None:
            known = _try(func, *described, effect)
            if known is None:
                self._effects[id(func)] = (Effect.UNKNOWN, func)
                return func(*args, **kwargs), None
            self._results[key] = known
        kind, parts, plan = known
        made = [
            part.make() if type(part) is _Metadata else None if part is None else _argument(part, args, kwargs)
            for part in parts
        ]
        return (made if issubclass(kind, (list, tuple)) else made[0] if made else None), plan


class _Known(NamedTuple):
    """What a call on such arguments gives: its type, what each part is, and what is allocated beside."""

    kind: type
    parts: tuple[Any, ...]
    plan: Plan | None


@functools.cache
def _import_shape_inference() -> None:
    """Make PyTorch import its shape inference now: done at first use, the import keeps its caller's frames alive."""
    torch.linalg.vector_norm(torch.empty(1, device="meta"))


def _effect(func: Any) -> Effect:
    schema = func._schema
    if torch.Tag.inplace_view in func.tags:
        return Effect.UNKNOWN
    if any(argument.is_write for argument in schema.arguments):
        returns_arguments = all(output.alias_info is not None for output in schema.returns)
        return Effect.WRITES if returns_arguments else Effect.UNKNOWN
    if any(output.alias_info is not None for output in schema.returns):
        return Effect.VIEWS
    returns_tensors = all("Tensor" in str(output.type) for output in schema.returns)
    return Effect.ALLOCATES if schema.returns and returns_tensors else Effect.UNKNOWN


def _describe(value: Any) -> Any:
    """Metadata of a tensor, a list of descriptions, or (type, value) of anything simple; hashable."""
    kind = type(value)
    if kind in _SIMPLE:
        return kind, value
    if isinstance(value, Tensor):
        if not value.is_meta or value.is_conj() or value.is_neg():
            raise _NotDescribedError
        return _Metadata(value.shape, value.stride(), value.dtype)
    if isinstance(value, (list, tuple)):
        return _List([_describe(item) for item in value])
    raise _NotDescribedError


_SIMPLE = {
    *(type(None), bool, int, float, complex, str),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
}


class _List(tuple[Any, ...]):
    """Descriptions of the items of a list."""

    __slots__ = ()


def _stand_in(described: Any) -> Any:
    if type(described) is _Metadata:
        return described.make()
    if type(described) is _List:
        return [_stand_in(item) for item in described]
    return described[1]


def _try(func: Any, args: Any, kwargs: Any, effect: Effect) -> _Known | None:
    """Run `func` on stand-ins: the type of its result, and what each part is.

    A part is the metadata of a new tensor, the place of an argument, or None. No answer if the call does more than
    that: changes the metadata of its arguments, or returns parts that share a storage.
    """
    stand_ins = [_stand_in(value) for value in args]
    named = {name: _stand_in(value) for name, value in kwargs.items()}
    result, plan = run(func, stand_ins, named)
    if [_describe(value) for value in stand_ins] != list(args):
        return None
    if {name: _describe(value) for name, value in named.items()} != kwargs:
        return None
    outputs = result if isinstance(result, (list, tuple)) else () if result is None else (result,)
    if effect is Effect.WRITES:
        places = [*enumerate(stand_ins), *named.items()]
        parts = tuple(next((place for place, value in places if value is output), None) for output in outputs)
        return None if None in parts else _Known(type(result), parts, plan)
    if not all(output is None or _fills_its_storage(output) for output in outputs):
        return None
    storages = [output.untyped_storage()._cdata for output in outputs if output is not None]
    inputs = {value.untyped_storage()._cdata for value in stand_ins if isinstance(value, Tensor)}
    if len(set(storages)) < len(storages) or inputs & set(storages):
        return None
    return _Known(type(result), tuple(None if output is None else _describe(output) for output in outputs), plan)


def _fills_its_storage(output: Any) -> bool:
    if not isinstance(output, Tensor) or not output.is_meta or output.is_conj() or output.is_neg():
        return False
    made: Tensor = _describe(output).make()
    return made.untyped_storage().nbytes() == output.untyped_storage().nbytes()


def _argument(place: int | str, args: Any, kwargs: Any) -> Any:
    return args[place] if isinstance(place, int) else kwargs[place]
