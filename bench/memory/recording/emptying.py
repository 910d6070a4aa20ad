"""torch.cuda.empty_cache within a step: the moments at which a program gives the allocator's cache back to the card."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol
from unittest.mock import patch

import torch

from bench.memory.recording.gradient_thread import thread_of_the_program

_KINDS = (torch.cuda.memory.empty_cache, torch.accelerator.memory.empty_cache)


class Hearer(Protocol):
    """A recorder, as it is told of emptied caches."""

    is_without_data: bool

    def note_emptying(self) -> None:
        """The cache is emptied now."""
        ...


@contextlib.contextmanager
def emptying_noted(recorder: Hearer) -> Iterator[None]:
    """Within this context, in this thread, `recorder` is told when the program empties the cache.

    A cache that is there, of a run with data, is emptied too. The function is replaced in every module that has it.
    """
    thread = threading.get_ident()

    def noting(empty: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(empty)
        def call(*args: Any, **kwargs: Any) -> None:
            if thread_of_the_program() == thread:
                recorder.note_emptying()
                if recorder.is_without_data:
                    return
            empty(*args, **kwargs)

        return call

    with contextlib.ExitStack() as patches:
        for empty in _KINDS:
            replacement = noting(empty)
            for module in _modules_with(empty):
                patches.enter_context(patch.object(module, empty.__name__, replacement))
        yield


def _modules_with(function: Callable[..., Any]) -> list[ModuleType]:
    """Every module that has a function under its name, as `from torch.cuda import empty_cache` leaves it."""
    return [
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and vars(module).get(function.__name__) is function
    ]
