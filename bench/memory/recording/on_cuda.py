"""Programs written for a GPU, recorded as they are: what says "cuda" gets tensors without data.

Within `on_cuda`, `device="cuda"`, `.cuda()` and `.to("cuda")` make tensors on the meta device, which say that they are
on cuda:0; torch.cuda answers as on a machine with one GPU; torch.autocast casts as on a GPU (autocast.py), and values
that the program reads are known or assumed (values.py). Models that were built before stay where they are.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

from bench.memory.recording.autocast import casts_of_a_gpu

META = torch.device("meta")
CUDA = torch.device("cuda", 0)

_active: ContextVar[bool] = ContextVar("on_cuda", default=False)


def is_on_cuda() -> bool:
    """Whether a recording takes the program for one on a GPU."""
    return _active.get()


@contextlib.contextmanager
def on_cuda(capability: tuple[int, int] | None = None) -> Iterator[None]:
    """Within this context, in this thread, "cuda" is the meta device, of a card with this compute capability."""
    if _active.get():
        yield
        return
    token = _active.set(True)
    default = torch.get_default_device()
    try:
        with _torch_cuda(capability or (8, 6)), _default_devices(), casts_of_a_gpu(), _Redirected():
            yield
    finally:
        if torch.get_default_device() != default:  # the program set it for its process
            torch.set_default_device(default)
        _active.reset(token)


def redirected(device: Any) -> Any:
    """What stands for a device: meta for "cuda" in all its spellings, anything else for itself."""
    if device is None or isinstance(device, torch.device):
        return META if device is not None and device.type == "cuda" else device
    if isinstance(device, str):
        return META if device.split(":")[0] == "cuda" else device
    return META if type(device) is int else device  # an index is one of the accelerator's


class _Redirected(TorchFunctionMode):
    """Sees every call of PyTorch's functions and changes the device that it is about."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with its devices redirected."""
        kwargs = kwargs or {}
        special = _SPECIAL.get(func)
        if special is not None:
            return special(func, args, kwargs)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": redirected(kwargs["device"])}
        if "generator" in kwargs:  # of the GPU, on which there is none
            kwargs = {name: value for name, value in kwargs.items() if name != "generator"}
        return func(*args, **kwargs)


def _to(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Tensor.to(device, ...) and its other forms."""
    options = {name: redirected(value) if name == "device" else value for name, value in kwargs.items()}
    positional = [
        redirected(value) if isinstance(value, (str, torch.device)) or type(value) is int else value
        for value in args[1:2]
    ]
    return func(args[0], *positional, *args[2:], **options)


def _cuda(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Tensor.cuda(device, non_blocking, memory_format)."""
    memory_format = kwargs.get("memory_format", torch.preserve_format)
    return args[0].to(META, memory_format=memory_format)


def _made_of_numbers(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """torch.tensor and torch.as_tensor: on a GPU a tensor of the host's, copied."""
    device = kwargs.get("device")
    if redirected(device) is not META or device is META:
        return func(*args, **kwargs)
    made = func(*args, **{**kwargs, "device": None})
    moved = made if made.is_meta else made.detach().to(META)
    return moved.requires_grad_() if kwargs.get("requires_grad") else moved


def _device(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    device = func(*args, **kwargs)
    return CUDA if device.type == "meta" else device


def _formatted(func: Any, args: Any, kwargs: Mapping[str, Any]) -> str:
    """A number in a text, as in f"{loss:.3f}"."""
    tensor, form = args
    return format(tensor.item() if _is_meta(tensor) and not tensor.dim() else tensor, form)


def _says(answer: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """A property of a tensor whose answer is another one where there is no data."""
    return lambda func, args, kwargs: answer(args[0]) if _is_meta(args[0]) else func(*args, **kwargs)


def _is_meta(tensor: Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return tensor.is_meta


_SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.to: _to,
    Tensor.cuda: _cuda,
    torch.tensor: _made_of_numbers,
    torch.as_tensor: _made_of_numbers,
    torch.asarray: _made_of_numbers,
    Tensor.device.__get__: _device,
    Tensor.is_cuda.__get__: _says(lambda _: True),  # type: ignore[attr-defined]
    Tensor.is_meta.__get__: _says(lambda _: False),  # type: ignore[attr-defined]
    Tensor.__format__: _formatted,
    Tensor.get_device: _says(lambda _: 0),
    Tensor.pin_memory: lambda func, args, kwargs: args[0],
    Tensor.is_pinned: lambda func, args, kwargs: False,
    Tensor.record_stream: lambda func, args, kwargs: None,
}


@contextlib.contextmanager
def _default_devices() -> Iterator[None]:
    """torch.set_default_device("cuda") and `with torch.device("cuda")`."""
    set_default = torch.set_default_device
    begin = DeviceContext.__init__

    def init(context: DeviceContext, device: Any) -> None:
        begin(context, redirected(device))

    with (
        patch.object(DeviceContext, "__init__", init),
        patch.object(torch, "set_default_device", lambda device: set_default(redirected(device))),
    ):
        yield


class _Nothing:
    """A stream, an event, a graph, a context: whatever is done with it, nothing happens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = CUDA

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *error: Any) -> None: ...


def _nothing(*args: Any, **kwargs: Any) -> Any:
    return None


def _zero(*args: Any, **kwargs: Any) -> int:
    return 0


_SILENT = ("synchronize", "empty_cache", "set_device", "manual_seed", "manual_seed_all", "init", "ipc_collect")
_SILENT_TOO = ("reset_peak_memory_stats", "reset_max_memory_allocated", "set_per_process_memory_fraction", "_lazy_init")
_ZERO = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "current_device")
_HANDLES = ("Stream", "Event", "ExternalStream", "device", "device_of", "StreamContext")

_ACCELERATOR = {"current_stream": _Nothing, "current_device_index": _zero, "synchronize": _nothing}


@contextlib.contextmanager
def _torch_cuda(capability: tuple[int, int]) -> Iterator[None]:
    """torch.cuda of a machine with one GPU."""
    properties = SimpleNamespace(
        name="CUDA", major=capability[0], minor=capability[1], total_memory=0, multi_processor_count=1
    )
    answers: dict[str, Any] = {
        **dict.fromkeys((*_SILENT, *_SILENT_TOO), _nothing),
        **dict.fromkeys(_ZERO, _zero),
        **dict.fromkeys(_HANDLES, _Nothing),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_name": lambda device=None: "CUDA",
        "get_device_capability": lambda device=None: capability,
        "get_device_properties": lambda device=None: properties,
        "current_stream": _Nothing,
        "default_stream": _Nothing,
        "stream": _Nothing,
        "mem_get_info": lambda device=None: (0, 0),
        "memory_stats": lambda device=None: {},
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": _nothing,
    }
    thread = threading.get_ident()

    def here(name: str, answer: Any) -> Any:
        """The answer for this thread; others, as loaders of data, find torch.cuda as it is."""
        before = getattr(torch.cuda, name)
        if isinstance(before, type):
            return answer
        return lambda *args, **kwargs: (answer if threading.get_ident() == thread else before)(*args, **kwargs)

    with contextlib.ExitStack() as patches:
        for name, answer in answers.items():
            if hasattr(torch.cuda, name):
                patches.enter_context(patch.object(torch.cuda, name, here(name, answer)))
        for name, answer in _ACCELERATOR.items():
            if hasattr(torch.accelerator, name):
                patches.enter_context(patch.object(torch.accelerator, name, answer))
        for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
            patches.enter_context(patch.object(torch.cuda.nvtx, name, _nothing))
        yield
