"""What torch.cuda answers on a machine with one GPU, for a program that is recorded without any."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from bench.memory.gpus import Card, threads_per_multiprocessor
from bench.memory.recording.allocator_told import ANSWERS
from bench.memory.recording.gradient_thread import thread_of_the_program

CUDA = torch.device("cuda", 0)


@dataclass
class Machine:
    """The card that a program finds, and whether it asked which that is: then it may do something else on others."""

    card: Card
    is_asked: bool = False


_machine: ContextVar[Machine] = ContextVar("machine")


@contextlib.contextmanager
def machine_with(card: Card) -> Iterator[Machine]:
    """Within this context torch.cuda answers for a card whose kernels are known."""
    machine = Machine(card)
    token = _machine.set(machine)
    try:
        yield machine
    finally:
        _machine.reset(token)


def _card() -> Card:
    machine = _machine.get()
    machine.is_asked = True
    return machine.card


def _capability(device: Any = None) -> tuple[int, int]:
    capability = _card().compute_capability
    assert capability
    return capability


def _properties(device: Any = None) -> SimpleNamespace:
    card, (major, minor) = _card(), _capability()
    return SimpleNamespace(
        name=_name(),
        major=major,
        minor=minor,
        total_memory=card.total_bytes,
        multi_processor_count=card.multiprocessors,
        max_threads_per_multi_processor=threads_per_multiprocessor((major, minor)),
        warp_size=32,
        is_integrated=0,
        is_multi_gpu_board=0,
    )


def _name(device: Any = None) -> str:
    chip = _card().chip
    return chip.device_names[0] if chip else _card().name


def _memory(device: Any = None) -> tuple[int, int]:
    return _card().usable_bytes, _card().total_bytes


def _computes_in_bf16(including_emulation: bool = True) -> bool:
    return including_emulation or _capability() >= (8, 0)


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


def _of_one_card(parallel: Any, *args: Any, **kwargs: Any) -> Any:
    """torch.nn.DataParallel's forward pass on one card: its module's."""
    return parallel.module(*args, **kwargs)


def _no_graph(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("CUDA graphs are not recorded: give the step that the graph is captured of")


class _NoGraph:
    """A class, as PyTorch's is: annotations name it, `CUDAGraph | None`."""

    __init__ = _no_graph


_SILENT = ("synchronize", "set_device", "manual_seed", "manual_seed_all", "init", "ipc_collect")
_SILENT_TOO = ("reset_peak_memory_stats", "reset_max_memory_allocated", "_lazy_init")
_GRAPHS = ("CUDAGraph", "graph")
_ZERO = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "current_device")
_HANDLES = ("Stream", "Event", "ExternalStream", "device", "device_of", "StreamContext")

_ACCELERATOR = {"current_stream": _Nothing, "current_device_index": _zero, "synchronize": _nothing}


@contextlib.contextmanager
def torch_cuda() -> Iterator[None]:
    """torch.cuda of a machine with one GPU: that of `machine_with`."""
    answers: dict[str, Any] = {
        **dict.fromkeys((*_SILENT, *_SILENT_TOO), _nothing),
        **dict.fromkeys(_ZERO, _zero),
        **dict.fromkeys(_HANDLES, _Nothing),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "is_bf16_supported": _computes_in_bf16,
        "get_device_name": _name,
        "get_device_capability": _capability,
        "get_device_properties": _properties,
        "current_stream": _Nothing,
        "default_stream": _Nothing,
        "stream": _Nothing,
        **dict.fromkeys(_GRAPHS, _NoGraph),
        "make_graphed_callables": _no_graph,
        "mem_get_info": _memory,
        "memory_stats": lambda device=None: defaultdict(int),
        "memory_summary": lambda device=None, abbreviated=False: "",
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": _nothing,
    }
    thread = threading.get_ident()

    def here(module: Any, name: str, answer: Any) -> Any:
        """The answer for this thread; others, as loaders of data, find torch.cuda as it is."""
        before = getattr(module, name)
        if isinstance(before, type):
            return answer
        return lambda *args, **kwargs: (answer if thread_of_the_program() == thread else before)(*args, **kwargs)

    with contextlib.ExitStack() as patches:
        for name, answer in answers.items():
            if hasattr(torch.cuda, name):
                patches.enter_context(patch.object(torch.cuda, name, here(torch.cuda, name, answer)))
        for name, answer in _ACCELERATOR.items():
            if hasattr(torch.accelerator, name):
                patches.enter_context(patch.object(torch.accelerator, name, answer))
        patches.enter_context(patch.object(torch.nn.DataParallel, "forward", _of_one_card))
        for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
            patches.enter_context(patch.object(torch.cuda.nvtx, name, _nothing))
        for module, name, answer in ANSWERS:
            patches.enter_context(patch.object(module, name, here(module, name, answer)))
        yield
