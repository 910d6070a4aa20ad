"""Operations that PyTorch writes by other operations, taken apart.

Some operations have no kernel of their own on any device (CompositeExplicitAutograd in native_functions.yaml): PyTorch
calls others in their place, whose results it needs for a moment. A dispatch mode sees the call as one. Here it is run
once more with a mode inside, on tensors that nobody else has: what is allocated and freed, in order.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch.utils._python_dispatch import TorchDispatchMode

from bench.memory.recording.layouts import called
from bench.memory.recording.products import CUBLAS_OPS


class Take(NamedTuple):
    """Memory that a call takes, by a number of its own, and gives back before it returns; `is_most`: or less."""

    number: int
    size_bytes: int
    is_most: bool = False


class Give(NamedTuple):
    """The end of a Take."""

    number: int


class Kept(NamedTuple):
    """An output whose storage on a card is another than the recorded one; none for 0."""

    output: Tensor
    size_bytes: int


class Output(NamedTuple):
    """The call's output of this place is allocated; `on_a_card` are its bytes there if they are others, as of Kept."""

    place: int
    on_a_card: int | None = None


class Multiplies(NamedTuple):
    """A product of matrices: cuBLAS takes its workspace here, if it has none yet."""


Composition = tuple[Take | Give | Output | Multiplies, ...]
"""What the operations allocate and free, in order, that another is written by."""

_COMPOSITES = (DispatchKey.CompositeExplicitAutograd, DispatchKey.CompositeImplicitAutograd)


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Composition | None]:
    """Call `func`; if it is written by others, what these take, unless nothing is taken beside the outputs."""
    key = _written_by_others(func)
    if key is None:
        return called(func, args, kwargs), None
    inside = _Inside()
    try:
        result = inside.call(func, key, args, kwargs)
    except (NotImplementedError, RuntimeError):  # it asks for values: the kernel without data knows better
        return called(func, args, kwargs), None
    outputs = result if isinstance(result, (list, tuple)) else (result,)
    return result, inside.composition(outputs)


@functools.cache
def _written_by_others(func: Any) -> Any:
    """The key of the implementation by other operations, None if there are kernels for devices."""
    schema = func._schema
    name = schema.name + ("." + schema.overload_name if schema.overload_name else "")
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    if has(name, "CPU") or func is torch.ops.aten._fused_rms_norm.default:  # which a card has a kernel for
        return None
    return next((key for key in _COMPOSITES if has(name, key)), None)


class _Inside(TorchDispatchMode):
    """Sees what a composite calls."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[Take | Give | Multiplies] = []
        self._numbers: dict[int, tuple[int, Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def call(self, func: Any, key: Any, args: Any, kwargs: Any) -> Any:
        with self:
            return func._op_dk(key, *args, **kwargs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        key = _written_by_others(func)
        if key is not None:
            return self.call(func, key, args, kwargs or {})
        given = {value.untyped_storage()._cdata for value in args if isinstance(value, Tensor)}
        result = called(func, args, kwargs or {})
        for output in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(output, Tensor) and output.is_meta and output.untyped_storage()._cdata not in given:
                self._note(output)
        if func in CUBLAS_OPS:
            self._events.append(Multiplies())
        return result

    def _note(self, output: Tensor) -> None:
        storage = output.untyped_storage()
        address = storage._cdata
        if address in self._numbers or not storage.nbytes():
            return
        number = sum(isinstance(event, Take) for event in self._events)
        self._events.append(Take(number, storage.nbytes()))
        self._numbers[address] = number, weakref.ref(storage, lambda _: self._free(address, number))

    def _free(self, address: int, number: int) -> None:
        del self._numbers[address]
        self._events.append(Give(number))

    def composition(self, outputs: Sequence[Any]) -> Composition | None:
        """What was allocated and freed, with the outputs by their places."""
        events = list(self._events)
        places = {
            self._numbers[output.untyped_storage()._cdata][0]: place
            for place, output in enumerate(outputs)
            if isinstance(output, Tensor) and output.untyped_storage()._cdata in self._numbers
        }
        self._numbers.clear()
        if all(isinstance(event, Take) and event.number in places for event in events):
            return None
        return tuple(
            Output(places[event.number]) if isinstance(event, Take) and event.number in places else event
            for event in events
        )
