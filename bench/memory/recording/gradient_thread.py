"""Gradients that are differentiated again: the thread in which a card makes their graph, for the numbers of its nodes.

The engine runs the node with the highest number first (CompareNodeTaskTime in PyTorch's autograd/engine.cpp), and each
thread numbers the nodes that it makes (ATen/SequenceNumber.cpp). On a card a backward pass runs in autograd's own
thread, so that what `create_graph=True` makes there is numbered apart from the program's own nodes; without data it
runs in the program's thread. Where nodes of both meet in one graph, as in a gradient penalty, the order is another.

Here such a backward pass runs in a thread of its own while the program waits. Both threads number as in a program that
has just begun: at the start of a recording they are at the same number, that of the one which is further, and the other
one makes nodes until it is there. Other backward passes make no nodes that a later one runs, and stay in the program's
thread, where their order is the card's.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeGuard
from unittest.mock import patch

import torch
from torch.autograd import graph
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

_next_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
_CREATE_GRAPH = 3  # its place in the arguments of _engine_run_backward
_waiting = threading.local()
"""In a thread of gradients: `frame` and `thread` of the program that waits for it."""


@contextlib.contextmanager
def numbered_as_on_a_card() -> Iterator[None]:
    """Within this context, in this thread, what makes a graph in a backward pass makes it in a thread of its own."""
    _number_from(_last.call(_next_number) if _lives(_last) else 0)
    start, thread = _next_number(), threading.get_ident()

    def instead(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            is_here = threading.get_ident() == thread and not torch._C._are_functorch_transforms_active()
            if not is_here or not args[_CREATE_GRAPH]:
                return run(*args, **kwargs)
            return _thread().call(functools.partial(run, *args, **kwargs), start)

        return call

    names = [(module, "_engine_run_backward") for module in (graph, torch.autograd)]
    with contextlib.ExitStack() as patches:
        for module, name in names:
            patches.enter_context(patch.object(module, name, instead(getattr(module, name))))
        yield


def thread_of_the_program() -> int:
    """The number of this thread, or of the one that waits for it."""
    return getattr(_waiting, "thread", None) or threading.get_ident()


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, also from the thread that waits for this one."""
    while frame is not None:
        yield frame
        frame = _waiting.frame if frame.f_code is _Call.run.__code__ else frame.f_back


def stack() -> traceback.StackSummary:
    """The lines that run, the outermost first."""
    lines = ((frame, frame.f_lineno) for frame in frames(sys._getframe(1)))
    found = traceback.StackSummary.extract(lines, lookup_lines=False)
    found.reverse()
    return found


def formatted_stack() -> list[str]:
    """The same as texts, as PyTorch's anomaly mode keeps them."""
    return stack().format()


class _Call:
    """A call for a thread of gradients: it is carried out in the surroundings of the thread that made it."""

    def __init__(self, function: Callable[[], Any], start: int) -> None:
        self._function, self._start = function, start
        self._frame: FrameType | None = sys._getframe(1)
        self._thread = thread_of_the_program()
        self._context = contextvars.copy_context()
        self._keys = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
        self._modes = _get_current_dispatch_mode_stack()  # those of functions end where a gradient is asked for
        self._hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
        self._done = threading.Lock()
        self._done.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Carry it out, in the thread of gradients."""
        _waiting.frame, _waiting.thread = self._frame, self._thread
        try:
            _number_from(self._start)
            with self._surroundings():
                self._result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the program waits
            self._error = error
        finally:
            del _waiting.frame, _waiting.thread
            self._done.release()

    def result(self) -> Any:
        """What it returned or raised, as soon as it is done; nothing of it is held any more."""
        with self._done:
            result, error = self._result, self._error
        vars(self).clear()
        if error is not None:
            try:
                raise error
            finally:
                del error
        return result

    @contextlib.contextmanager
    def _surroundings(self) -> Iterator[None]:
        """What autograd's own threads take over (ThreadLocalState), as far as a recording has it."""
        hooks = self._hooks and torch.autograd.graph.saved_tensors_hooks(*self._hooks)
        with contextlib.ExitStack() as entered:
            for mode in self._modes:
                torch._C._push_on_torch_dispatch_stack(mode)
                entered.callback(torch._C._pop_torch_dispatch_stack, None)
            entered.enter_context(torch._C._ForceDispatchKeyGuard(*self._keys))
            entered.enter_context(hooks or contextlib.nullcontext())
            yield


class _Thread(threading.Thread):
    """A thread that carries out calls, one after the other, until the process ends."""

    def __init__(self) -> None:
        super().__init__(name="gradients", daemon=True)
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self.start()

    def call(self, function: Callable[[], Any], start: int = 0) -> Any:
        """Carry out a function that makes nodes, which get numbers from `start` on, or higher ones."""
        call = _Call(function, start)
        self._calls.put(call)
        return call.result()

    def run(self) -> None:
        """Wait for calls."""
        while True:
            self._calls.get().run()


def _number_from(start: int) -> None:
    """Make nodes until this thread's next one has this number, or a higher one already: a microsecond for each."""
    leaf = torch.empty(0, requires_grad=True)
    with torch.enable_grad():
        for _ in range(start - _next_number()):
            leaf.view_as(leaf)


_last: _Thread | None = None


def _lives(thread: _Thread | None) -> TypeGuard[_Thread]:
    """Whether there is a thread, and in this process: one that was forked has it not."""
    return thread is not None and thread.is_alive()


def _thread() -> _Thread:
    """The one thread of the process for gradients: all that is numbered there is made up for once."""
    global _last
    if not _lives(_last):
        _last = _Thread()
    return _last
