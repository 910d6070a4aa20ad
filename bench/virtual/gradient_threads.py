"""The threads in which PyTorch computes gradients for a card, and when they are done.

Gradients are there before their thread has let go of the last tensors that it held: on a card either may come first,
what that thread frees or what the program allocates next, and with it the order of blocks. Here the thread is always
done first, so that a step gives the same events each time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import graph

_TASKS = Path("/proc/self/task")
_NAME = "pt_autograd_"  # and a number: torch/csrc/autograd/engine.cpp, Engine::thread_init
_SECONDS = 2.0  # the longest that is waited
_PAUSE_SECONDS = 2e-5
_LOOKS = 2  # in a row, at which they all wait


@contextlib.contextmanager
def done_before_the_program_goes_on() -> Iterator[None]:
    """Within this context a backward pass returns when its threads have nothing left to do."""
    names = [(module, "_engine_run_backward") for module in (graph, torch.autograd)]
    with contextlib.ExitStack() as patches:
        for module, name in names:
            patches.enter_context(patch.object(module, name, _waiting(getattr(module, name))))
        yield


def _waiting(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_and_wait(*args: Any, **kwargs: Any) -> Any:
        found = run(*args, **kwargs)
        end, quiet = time.monotonic() + _SECONDS, 0
        while quiet < _LOOKS and time.monotonic() < end:
            time.sleep(_PAUSE_SECONDS)  # in which a thread that waits for Python gets it
            quiet = 0 if any(map(_runs, _TASKS.iterdir())) else quiet + 1
        return found

    return run_and_wait


def _runs(task: Path) -> bool:
    """Whether a thread is one of gradients, another than this, and does not wait."""
    if int(task.name) == threading.get_native_id():
        return False
    try:
        name, _, state = (task / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:  # it has ended
        return False
    return name.startswith(_NAME) and state.split()[0] == "R"
