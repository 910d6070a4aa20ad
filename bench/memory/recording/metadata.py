"""What operations do to tensors without data, remembered.

Shape inference of a convolution takes PyTorch some 200 us of Python, and a network repeats the same few dozen
calls thousands of times. What a call does to metadata, and what a card's kernel allocates, are functions of its
arguments' metadata: the first call is run, its repetitions are made from memory.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from bench.memory.recording import kernels
from bench.memory.recording.composites import run


class Effect(Enum):
    """What an operation does to memory, as its schema tells."""

    VIEWS = auto()  # returns views of its arguments: allocates nothing
    WRITES = auto()  # writes into arguments and returns them, or nothing
    ALLOCATES = auto()  # returns new tensors
    UNKNOWN = auto()  # changes the metadata or the size of its arguments, or returns something else


Called = tuple[Any, Sequence[Tensor | None], kernels.Plan]
"""A call that was made: what it returns, its tensors in order, and what is allocated. No NamedTuple, for speed."""


class _NotDescribedError(Exception):
    """An argument is more than metadata: a host tensor with values, a generator, ..."""


class OutputCache:
    """Calls operations on tensors without data, running each combination of metadata once.

    That once is on stand-ins: the Python code behind shape inference may hold on to its arguments, and the step's
    own tensors must die when the step lets them.
    """

    def __init__(self) -> None:
        import_shape_inference()
        self._effects: dict[int, tuple[Effect, Any]] = {}  # by id: an operation's own hash is slow Python
        self._results: dict[Any, _Known] = {}

    def effect(self, func: Any) -> Effect:
        """What `func` does to memory."""
        known = self._effects.get(id(func))
        if known is None:
            known = self._effects[id(func)] = (_effect(func), func)
        return known[0]

    def call(self, func: Any, args: Any, kwargs: Any) -> Called:
        """Call `func` on these arguments; views are not remembered."""
        entry = self._effects.get(id(func))
        effect = entry[0] if entry else self.effect(func)
        if effect is Effect.VIEWS:
            return func(*args, **kwargs), (), ()
        if effect is Effect.UNKNOWN:
            return _run_on_meta(func, args, kwargs)
        key: list[Any] = [id(func)]
        try:
            for value in args:
                if isinstance(value, Tensor):  # as in `_describe`, without a call for each
                    if not value.is_meta or value.is_conj() or value.is_neg():
                        return _run_on_meta(func, args, kwargs)
                    key.append((value.shape, value.stride(), value.dtype, value.storage_offset()))
                elif type(value) in _SIMPLE:
                    key.append((type(value), value))
                else:
                    key.append(_describe(value))
            if kwargs:
                key += [(name, _describe(value)) for name, value in kwargs.items()]
        except _NotDescribedError:
            return _run_on_meta(func, args, kwargs)
        which = tuple(key)
        known = self._results.get(which)
        if known is None:
            known = self._results[which] = _try(func, args, kwargs, effect)
        return _run_on_meta(func, args, kwargs) if known is _ELSE else known.repeat(args, kwargs)


def run_now(func: Any, args: Any, kwargs: Any) -> Called:
    """Call `func` as it is."""
    result = func(*args, **kwargs)
    outputs = _flat(result)
    return result, outputs, kernels.plan(func, args, kwargs, outputs)


def _run_on_meta(func: Any, args: Any, kwargs: Any) -> Called:
    """Call `func` as it is; what it makes on the host takes nothing of the card."""
    result = func(*args, **kwargs)
    outputs = _flat(result)
    made = [output for output in outputs if output is not None]
    if made and not any(output.is_meta for output in made):
        return result, (), ()
    return result, outputs, kernels.plan(func, args, kwargs, outputs)


class _Known:
    """What a call on such arguments gives.

    Attributes:
        is_list: whether several parts, or none, in a list.
        parts: what each is (`_try`).
        plan: what is allocated.
    """

    def __init__(self, is_list: bool, parts: tuple[Any, ...], plan: kernels.Plan) -> None:
        self._is_list = is_list
        self._parts = parts
        self._plan = plan
        self._only = None if is_list or not parts or type(parts[0]) is not tuple else parts[0]

    def repeat(self, args: Any, kwargs: Any) -> Called:
        """What it gives for these."""
        if self._only:
            shape, stride, dtype = self._only
            output = torch.empty_strided(shape, stride, dtype=dtype, device=_META)
            return output, (output,), self._plan
        outputs = [_made(part, args, kwargs) for part in self._parts]
        return outputs if self._is_list else outputs[0] if outputs else None, outputs, self._plan


def _made(part: Any, args: Any, kwargs: Any) -> Tensor | None:
    if type(part) is int:
        return args[part]  # type: ignore[no-any-return]
    if type(part) is tuple:
        return torch.empty_strided(part[0], part[1], dtype=part[2], device=_META)
    return None if part is None else kwargs[part]


_META = torch.device("meta")
_ELSE = _Known(False, (), ())
"""Of a call that does more than can be remembered."""


@functools.cache
def import_shape_inference() -> None:
    """Make PyTorch import its shape inference now: done at first use, the import keeps its caller's frames alive.

    It takes as long as most of PyTorch: processes that are forked afterwards need not do it again.
    """
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
    """Shape, strides, type and offset of a tensor, a tuple of descriptions, or (type, value) of anything simple."""
    kind = type(value)
    if kind in _SIMPLE:
        return kind, value
    if isinstance(value, Tensor):
        if not value.is_meta or value.is_conj() or value.is_neg():
            raise _NotDescribedError
        return value.shape, value.stride(), value.dtype, value.storage_offset()
    if isinstance(value, (list, tuple)):
        return tuple([_describe(item) for item in value])
    raise _NotDescribedError


_SIMPLE = {
    *(type(None), bool, int, float, complex, str),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
}


def _stand_in(value: Any) -> Any:
    """The same metadata in a storage of its own."""
    if isinstance(value, Tensor):
        shape, stride, offset = value.shape, value.stride(), value.storage_offset()
        if not offset:
            return torch.empty_strided(shape, stride, dtype=value.dtype, device=_META)
        end = offset + 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True) if length)
        return torch.empty(end, dtype=value.dtype, device=_META).as_strided(shape, stride, offset)
    if isinstance(value, (list, tuple)):
        return [_stand_in(item) for item in value]
    return value


def _try(func: Any, args: Any, kwargs: Any, effect: Effect) -> _Known:
    """Run `func` on stand-ins: whether it gives a list, what each part is, and what is allocated.

    A part is the shape, strides and type of a new tensor, the place of an argument, or None. _ELSE if the call does
    more than that: changes the metadata of its arguments, or returns parts that share a storage.
    """
    stand_ins = [_stand_in(value) for value in args]
    named = {name: _stand_in(value) for name, value in kwargs.items()}
    result, composition = run(func, stand_ins, named)
    if any(_describe(stand_in) != _describe(value) for stand_in, value in zip(stand_ins, args, strict=True)):
        return _ELSE
    if any(_describe(named[name]) != _describe(value) for name, value in kwargs.items()):
        return _ELSE
    outputs = result if isinstance(result, (list, tuple)) else () if result is None else (result,)
    if effect is Effect.WRITES:
        places = [*enumerate(stand_ins), *named.items()]
        parts = tuple(next((place for place, value in places if value is output), None) for output in outputs)
        if None in parts:
            return _ELSE
    else:
        if not all(output is None or _fills_its_storage(output) for output in outputs):
            return _ELSE
        storages = [output.untyped_storage()._cdata for output in outputs if output is not None]
        inputs = {value.untyped_storage()._cdata for value in stand_ins if isinstance(value, Tensor)}
        if len(set(storages)) < len(storages) or inputs & set(storages):
            return _ELSE
        parts = tuple(None if output is None else _describe(output)[:3] for output in outputs)
    plan = kernels.plan(func, stand_ins, named, outputs, composition)
    return _Known(isinstance(result, (list, tuple)), parts, plan)


def _fills_its_storage(output: Any) -> bool:
    if not isinstance(output, Tensor) or not output.is_meta or output.is_conj() or output.is_neg():
        return False
    return bool(_stand_in(output).untyped_storage().nbytes() == output.untyped_storage().nbytes())


def _flat(result: Any) -> list[Tensor | None]:
    """An operation's outputs, in order: tensors, members of lists of tensors, None for all else."""
    if isinstance(result, (tuple, list)):
        return [leaf for item in result for leaf in _flat(item)]
    return [result if isinstance(result, Tensor) else None]
