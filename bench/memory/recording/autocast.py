"""torch.autocast on tensors without data: the casts of a GPU, at their place in the dispatcher.

PyTorch's kernels of the key AutocastCUDA leave tensors without data alone. Within `casts_of_a_gpu` kernels of ours
stand in their place, for the operations that PyTorch lists (ATen/autocast_mode.h of the installed release), and the
key is one of every call's: torch.autocast, which takes it out and puts it in, works in all spellings as it is.

| list | what it does to floating-point arguments, but for float64 |
|---|---|
| LOWER_PRECISION_FP | casts them to the type of torch.autocast |
| FP32 | casts them to float32 |
| FP32_SET_OPT_DTYPE | asks for a result in float32, where the call asks for no type |
| PROMOTE | casts them to the widest of theirs |

As in cached_cast of ATen/autocast_mode.cpp, a weight's cast to the lower precision is kept until the outermost
torch.autocast ends: a leaf of float32 that requires a gradient and is no view. It is made with a gradient, so that one
that was first asked for within no_grad serves afterwards too.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from bench.memory.recording import recurrent

aten = torch.ops.aten
_KEY = torch._C.DispatchKey.AutocastCUDA
_KEYS = torch._C.DispatchKeySet(_KEY)
_LISTS = ("LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE")
_LOW = (torch.float16, torch.bfloat16)

_kept: dict[int, tuple[Tensor, Tensor]] = {}
"""Casts of weights, by the weight's id, which is held so that no other tensor has it."""


@contextlib.contextmanager
def casts_of_a_gpu() -> Iterator[None]:
    """Within this context, in this thread, torch.autocast("cuda") casts tensors without data."""
    clear = torch.clear_autocast_cache

    def clear_both() -> None:
        _kept.clear()
        clear()

    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verrid")  # that PyTorch's own are there is why ours are needed
            for policy, names in _listed().items():
                for name in names:
                    library.impl(name, functools.partial(_POLICIES[policy], _operation(name)), _KEY.name)
            library.impl("_cudnn_rnn", _in_half, _KEY.name)
        with patch.object(torch, "clear_autocast_cache", clear_both), torch._C._IncludeDispatchKeyGuard(_KEY):
            yield
    finally:
        _kept.clear()
        library._destroy()


@functools.cache
def _listed() -> dict[str, list[str]]:
    """Operations by list, as the installed release has them: "softmax.int"."""
    text = (Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h").read_text(encoding="utf-8")
    found = {}
    for policy in _LISTS:
        body = re.search(rf"#define AT_FORALL_{policy}\(_\)(.*?)\n\n", text, re.DOTALL)
        assert body, f"PyTorch's header has no list {policy}"
        entries = re.findall(r"_\((\w+)(?:,\s*(\w+))?\)", body[1])
        found[policy] = [f"{name}.{overload}" if overload else name for name, overload in entries]
    return found


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


def _lower_precision(operation: Any, *args: Any, **kwargs: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_KEYS):
        return _called(operation, torch.get_autocast_dtype("cuda"), args, kwargs)


def _float32(operation: Any, *args: Any, **kwargs: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_KEYS):
        return _called(operation, torch.float32, args, kwargs)


def _float32_by_dtype(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Ask for float32, where the first argument is one to cast and no type is asked for."""
    with torch._C._ExcludeDispatchKeyGuard(_KEYS):
        asked = kwargs.get("dtype") is not None or any(isinstance(value, torch.dtype) for value in args)
        if _is_eligible(args[0]) and not asked:
            args = tuple(args[: _place_of_dtype(operation)])
            kwargs = {**kwargs, "dtype": torch.float32}
        return operation(*args, **kwargs)


def _promote(operation: Any, *args: Any, **kwargs: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_KEYS):
        types = {each.dtype for each in (*args, *kwargs.values()) if _is_eligible(each)}  # in its lists are indices
        low = torch.get_autocast_dtype("cuda")
        return _called(operation, torch.float32 if types - {low} else low, args, kwargs)


def _in_half(*args: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_KEYS):
        return recurrent.in_half(_cast, *args)


_POLICIES: dict[str, Callable[..., Any]] = {
    "LOWER_PRECISION_FP": _lower_precision,
    "FP32": _float32,
    "FP32_SET_OPT_DTYPE": _float32_by_dtype,
    "PROMOTE": _promote,
}


def _called(operation: Any, dtype: torch.dtype, args: Any, kwargs: Any) -> Any:
    """Call with arguments cast, the last one first: so does what PyTorch's C++ is compiled to."""
    named = {name: _cast(dtype, each) for name, each in reversed(kwargs.items())}
    positional = [_cast(dtype, each) for each in reversed(args)]
    return operation(*reversed(positional), **named)


def _cast(dtype: torch.dtype, value: Any) -> Any:
    """An argument in another type, if it is one to cast."""
    if isinstance(value, (list, tuple)):
        return [_cast(dtype, each) for each in value]
    if not _is_eligible(value) or value.dtype is dtype:
        return value
    if not _is_kept(dtype, value):
        return value.to(dtype)
    kept = _kept.get(id(value))
    if kept is None:
        with torch.enable_grad():  # also where none is asked for
            kept = _kept[id(value)] = value, value.to(dtype)
    return kept[1]


def _is_eligible(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.is_meta and value.is_floating_point() and value.dtype is not torch.float64
    )


def _is_kept(dtype: torch.dtype, weight: Tensor) -> bool:
    return (
        dtype is torch.get_autocast_dtype("cuda")
        and weight.dtype is torch.float32
        and weight.requires_grad
        and weight.is_leaf
        and not weight._is_view()
        and torch.is_autocast_cache_enabled()
    )


@functools.cache
def _place_of_dtype(operation: Any) -> int:
    """Where in the arguments the type is that a call asks for, or how many there are if it is named."""
    arguments = operation._schema.arguments
    return next((place for place, each in enumerate(arguments) if each.name == "dtype"), len(arguments))
