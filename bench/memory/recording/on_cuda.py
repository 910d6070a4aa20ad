"""Programs written for a GPU, recorded as they are: what says "cuda" gets tensors without data.

Within `on_cuda`, `device="cuda"`, `.cuda()` and `.to("cuda")` make tensors on the meta device, which say that they are
on cuda:0; torch.cuda answers as on a machine with one GPU; torch.autocast casts as on a GPU (autocast.py), and values
that the program reads are known or assumed (values.py). Models that were built before stay where they are.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._pytree import tree_map_only
from torch.utils.data.dataloader import _BaseDataLoaderIter

from bench.memory.gpus import Card
from bench.memory.recording.attention import Attention, Kernels, attention_of, with_kernels
from bench.memory.recording.attention_choice import Choice
from bench.memory.recording.autocast import casts_of_a_gpu
from bench.memory.recording.distributed import ranks_alone
from bench.memory.recording.not_recorded import scripts_left
from bench.memory.recording.outside import nothing_outside
from bench.memory.recording.torch_cuda import CUDA, Machine, machine_with, torch_cuda

META = torch.device("meta")

_is_meta: Callable[[Tensor], bool] = torch._C.TensorBase.is_meta.__get__  # type: ignore[attr-defined]
_active: ContextVar[bool] = ContextVar("on_cuda", default=False)


def is_on_cuda() -> bool:
    """Whether a recording takes the program for one on a GPU."""
    return _active.get()


def as_told(device: torch.device) -> torch.device:
    """The device that a program is told to run on: cuda:0 where it is taken for one on a GPU."""
    return CUDA if is_on_cuda() else device


class Asked(NamedTuple):
    """What a program asked of the card, while it was taken for one on a GPU."""

    attention: Attention
    machine: Machine

    @property
    def choices(self) -> set[Choice]:
        """The kernels that attention was computed with."""
        return self.attention.choices

    @property
    def is_about_card(self) -> bool:
        """Whether it asked which card there is."""
        return self.machine.is_asked


@contextlib.contextmanager
def on_cuda(card: Card | None = None) -> Iterator[Asked]:
    """Within this context, in this thread, "cuda" is the meta device, with the kernels of a card.

    Without one, or where only its capacity is known, they are an RTX 3080's. What is given tells what the program asked
    of the card.
    """
    kernels = Kernels.of(card)
    if _active.get():
        with attention_of(kernels) as attention, machine_with(with_kernels(card)) as machine:
            yield Asked(attention, machine)
        return
    token = _active.set(True)
    default = _default_device()
    try:
        with (
            machine_with(with_kernels(card)) as machine,
            torch_cuda(),
            _default_devices(),
            _saved_on_the_host(),
            ranks_alone(),
            nothing_outside(),
            scripts_left(),
            casts_of_a_gpu(),
            attention_of(kernels) as attention,
            _redirections(),
        ):
            yield Asked(attention, machine)
    finally:
        if _default_device() != default:  # the program set it for its process
            torch.set_default_device(default)
        _active.reset(token)


def redirected(device: Any) -> Any:
    """What stands for a device: meta for "cuda" in all its spellings, anything else for itself."""
    if device is None or isinstance(device, torch.device):
        return META if device is not None and device.type == "cuda" else device
    if isinstance(device, str):
        return META if device.split(":")[0] == "cuda" else device
    return META if type(device) is int else device  # an index is one of the accelerator's


def _default_device() -> torch.device | None:
    """What torch.set_default_device was last told in this thread; None if nothing."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


@contextlib.contextmanager
def _redirections() -> Iterator[None]:
    """PyTorch's functions and methods that take a device, and what tensors say of theirs.

    Each is replaced where it stands. A mode that sees every call would be simpler, but holds on to what a function of
    PyTorch's own in Python lets go.
    """
    constructors = [
        *((torch, name) for name in _MAKERS if hasattr(torch, name)),
        *((Tensor, name) for name in _MAKERS_LIKE_A_TENSOR),
        *((torch.fft, name) for name in ("fftfreq", "rfftfreq")),
    ]
    with contextlib.ExitStack() as patches:
        for module, name in _names_taken_before():
            original = getattr(torch, name)
            patches.enter_context(patch.object(module, name, _while_on_cuda(original, _OTHERS[name])))
        for owner, name in constructors:
            patches.enter_context(patch.object(owner, name, _where_it_says(getattr(owner, name))))
        for name, replacement in _OTHERS.items():
            owner = torch if name in _OF_TORCH else Tensor
            patches.enter_context(patch.object(owner, name, _while_on_cuda(getattr(owner, name), replacement)))
        for name, answer in _PROPERTIES.items():
            patches.enter_context(patch.object(Tensor, name, _property(name, answer)))
        patches.enter_context(patch.object(torch, "Generator", _Generator))
        patches.enter_context(
            patch.object(_BaseDataLoaderIter, "__init__", _without_pinning(_BaseDataLoaderIter.__init__))
        )
        patches.enter_context(patch.object(torch, "load", _while_on_cuda(torch.load, _loaded)))
        patches.enter_context(patch.object(torch.nn.Module, "to", _while_on_cuda(torch.nn.Module.to, _module_to)))
        lazy = UninitializedTensorMixin  # which knows by name what may be called before a lazy layer has its shape
        allowed = [*lazy._allowed_methods, *(getattr(Tensor, name) for name in ("to", "cuda", "get_device"))]
        patches.enter_context(patch.object(lazy, "_allowed_methods", allowed))
        yield


_MAKERS = (
    *("empty", "empty_permuted", "empty_strided", "empty_like", "zeros", "zeros_like", "ones", "ones_like"),
    *("full", "full_like", "arange", "range", "linspace", "logspace", "eye", "scalar_tensor"),
    *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal"),
    *("tril_indices", "triu_indices", "sparse_coo_tensor", "sparse_csr_tensor"),
    *("bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"),
)
_MAKERS_LIKE_A_TENSOR = ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros")


def _where_it_says(func: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes a tensor, on a device by name."""

    @functools.wraps(func)
    def make(*args: Any, **kwargs: Any) -> Any:
        if kwargs and _active.get():
            if "device" in kwargs:
                kwargs["device"] = redirected(kwargs["device"])
            kwargs.pop("generator", None)  # of the GPU, on which there is none
            kwargs.pop("pin_memory", None)  # of the host, for a GPU
        return func(*args, **kwargs)

    return make


def _while_on_cuda(func: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return replacement(func, args, kwargs) if _active.get() else func(*args, **kwargs)

    return call


def _to(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Tensor.to(device, ...) and its other forms."""
    options = {name: redirected(value) if name == "device" else value for name, value in kwargs.items()}
    where = [redirected(value) if not isinstance(value, (Tensor, torch.dtype)) else value for value in args[1:2]]
    return func(args[0], *where, *args[2:], **options)


def _module_to(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """torch.nn.Module.to(device, ...), where a rank's number may name the device."""
    module, *where = (CUDA if type(value) is int else value for value in args)
    options = {name: CUDA if name == "device" and type(value) is int else value for name, value in kwargs.items()}
    return func(module, *where, **options)


def _cuda(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Tensor.cuda(device, non_blocking, memory_format)."""
    return args[0].to(META, memory_format=kwargs.get("memory_format", torch.preserve_format))


def _made_of_numbers(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """torch.tensor and torch.as_tensor: on a GPU a tensor of the host's, copied."""
    device = kwargs.get("device")
    if redirected(device) != META:  # PyTorch itself names the device that tensors have
        return func(*args, **kwargs)
    made = func(*args, **{**kwargs, "device": None})
    moved = made if _is_meta(made) else made.detach().to(META)
    return moved.requires_grad_() if kwargs.get("requires_grad") else moved


def _loaded(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """torch.load(file, map_location): a path or a device may be named, in which case all of it goes there."""
    where = args[1] if len(args) > 1 else kwargs.get("map_location")
    if callable(where) or isinstance(where, dict) or redirected(where) is not META:
        return func(*args, **kwargs)
    others = {name: value for name, value in kwargs.items() if name != "map_location"}
    loaded = func(args[0], "cpu", *args[2:], **others)
    return tree_map_only(Tensor, lambda tensor: tensor.to(META), loaded)


def _formatted(func: Any, args: Any, kwargs: Mapping[str, Any]) -> str:
    """A number in a text, as in f"{loss:.3f}"."""
    tensor, form = args
    return format(tensor.item(), form) if _is_meta(tensor) and not tensor.dim() else func(tensor, form)


def _assigned(func: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
    """x[...] = 1: on a card the number stays on the host."""
    tensor, where, value = args
    if isinstance(value, (bool, int, float)) and _is_meta(tensor):
        value = torch.scalar_tensor(value, dtype=tensor.dtype, device="cpu")
    func(tensor, where, value)


def _deep_copied(func: Any, args: Any, kwargs: Any) -> Any:
    """copy.deepcopy of a buffer: all of its storage, and a number that is there for a moment."""
    tensor, memo = args
    is_buffer = type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.requires_grad
    if not is_buffer or not _is_meta(tensor) or vars(tensor) or id(tensor) in memo:
        return func(*args, **kwargs)
    with torch.no_grad():
        storage = tensor.untyped_storage()
        key = storage._cdata, "copied"
        if key not in memo:
            whole = tensor.detach().as_strided((storage.nbytes() // tensor.element_size(),), (1,), 0)
            memo[key] = whole.clone()
        tensor.new_empty(())
        copied = memo[key].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    memo[id(tensor)] = copied
    return copied


_OTHERS: dict[str, Callable[..., Any]] = {
    "__deepcopy__": _deep_copied,
    "__setitem__": _assigned,
    "to": _to,
    "cuda": _cuda,
    "tensor": _made_of_numbers,
    "as_tensor": _made_of_numbers,
    "asarray": _made_of_numbers,
    "__format__": _formatted,
    "get_device": lambda func, args, kwargs: 0 if _is_meta(args[0]) else func(*args),
    "pin_memory": lambda func, args, kwargs: args[0],
    "is_pinned": lambda func, args, kwargs: False,
    "record_stream": lambda func, args, kwargs: None,
}

_OF_TORCH = ("tensor", "as_tensor", "asarray")  # the others are methods of tensors


def _names_taken_before() -> list[tuple[ModuleType, str]]:
    """Where a program has such a function by a name of its own module, as `from torch import tensor` leaves it.

    Functions of `_MAKERS` may be taken in any way: the recorder sees what they call, with the device that was named.
    """
    return [
        (module, name)
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and module is not torch
        for name in _OF_TORCH
        if vars(module).get(name) is getattr(torch, name)
    ]


_PROPERTIES: dict[str, Any] = {"device": CUDA, "is_cuda": True, "is_meta": False}
_INSIDE = str(Path(torch.__file__).parent / "_")  # of PyTorch's own: what knows of tensors without data
_HERE = str(Path(__file__).parents[1]) + os.sep


def _property(name: str, answer: Any) -> Any:
    """A property of tensors, with another answer for the program where there is no data."""
    of_tensor = getattr(torch._C.TensorBase, name).__get__

    def get(tensor: Tensor) -> Any:
        if not _is_meta(tensor) or not _active.get():
            return of_tensor(tensor)
        asked_from = sys._getframe(1).f_code.co_filename
        return of_tensor(tensor) if asked_from.startswith((_INSIDE, _HERE)) else answer

    return property(get)


@contextlib.contextmanager
def _default_devices() -> Iterator[None]:
    """torch.set_default_device("cuda") and `with torch.device("cuda")`."""
    set_default = torch.set_default_device
    begin = DeviceContext.__init__
    _device_constructors()  # found now, as they are

    def init(context: DeviceContext, device: Any) -> None:
        begin(context, redirected(device))

    with (
        patch.object(DeviceContext, "__init__", init),
        patch.object(torch, "set_default_device", lambda device: set_default(redirected(device))),
    ):
        yield


def _without_pinning(begin: Callable[..., None]) -> Callable[..., None]:
    """A loader's way through its data, which lies in the host's memory: no thread asks CUDA to pin it."""

    def init(iterator: Any, *args: Any, **kwargs: Any) -> None:
        begin(iterator, *args, **kwargs)
        iterator._pin_memory = iterator._pin_memory and not _active.get()

    return init


@contextlib.contextmanager
def _saved_on_the_host() -> Iterator[None]:
    """torch.autograd.graph.save_on_cpu: what is saved leaves the card and comes back, without data on the host."""
    begin = save_on_cpu.__init__

    def init(saves: save_on_cpu, pin_memory: bool = False, *args: Any, **kwargs: Any) -> None:
        begin(saves, pin_memory, *args, **kwargs)
        pack, unpack = saves.pack_hook, saves.unpack_hook

        def leave(tensor: Tensor) -> Any:
            if not _is_meta(tensor):
                return pack(tensor)
            if pin_memory:
                tensor = tensor.contiguous()  # the host's block is; a copy between devices first makes it so
            return _Away(tensor.shape, tensor.stride(), tensor.dtype)

        def come_back(packed: Any) -> Tensor:
            if not isinstance(packed, _Away):
                return unpack(packed)
            return torch.empty_strided(packed.shape, packed.stride, dtype=packed.dtype, device=META)

        saves.pack_hook, saves.unpack_hook = leave, come_back

    with patch.object(save_on_cpu, "__init__", init):
        yield


class _Away(NamedTuple):
    """A tensor that waits on the host."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


_ITS_GENERATOR = torch.Generator


class _AnyGenerator(type(_ITS_GENERATOR)):  # type: ignore[misc]
    """So that those that PyTorch itself made are instances."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _ITS_GENERATOR)


class _Generator(torch.Generator, metaclass=_AnyGenerator):
    """A generator of the GPU, of which nothing is drawn; the host's, made anew."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        return super().__new__(cls, "cpu" if redirected(device) == META else device)  # type: ignore[call-arg]
