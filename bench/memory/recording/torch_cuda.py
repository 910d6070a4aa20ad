"""What torch.cuda answers on a machine with one GPU, for a program that is recorded without any."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from bench.units import GiB

CUDA = torch.device("cuda", 0)
TOTAL_BYTES = 24 * GiB  # that torch.cuda tells of: a step is recorded once for cards of any size


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


_SILENT = ("synchronize", "set_device", "manual_seed", "manual_seed_all", "init", "ipc_collect")
_SILENT_TOO = ("reset_peak_memory_stats", "reset_max_memory_allocated", "set_per_process_memory_fraction", "_lazy_init")
_GRAPHS = ("CUDAGraph", "graph", "make_graphed_callables")
_ZERO = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "current_device")
_HANDLES = ("Stream", "Event", "ExternalStream", "device", "device_of", "StreamContext")

_ACCELERATOR = {"current_stream": _Nothing, "current_device_index": _zero, "synchronize": _nothing}


@contextlib.contextmanager
def torch_cuda(capability: tuple[int, int]) -> Iterator[None]:
    """torch.cuda of a machine with one GPU."""
    properties = SimpleNamespace(
        name="CUDA", major=capability[0], minor=capability[1], total_memory=TOTAL_BYTES, multi_processor_count=1
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
        **dict.fromkeys(_GRAPHS, _no_graph),
        "mem_get_info": lambda device=None: (TOTAL_BYTES, TOTAL_BYTES),
        "memory_stats": lambda device=None: defaultdict(int),
        "memory_summary": lambda device=None, abbreviated=False: "",
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
        patches.enter_context(patch.object(torch.nn.DataParallel, "forward", _of_one_card))
        for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
            patches.enter_context(patch.object(torch.cuda.nvtx, name, _nothing))
        yield
