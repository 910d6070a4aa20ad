"""The local process pool: cells side by side, one per core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any

_CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
_messages: SimpleQueue[Any] | None = None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def queue() -> SimpleQueue[Any]:
    """What the workers of a pool can send messages through, to be read here in time: a full one makes them wait."""
    return _CONTEXT.SimpleQueue()


def message(content: Any) -> None:
    """Send a message out of a worker."""
    assert _messages is not None
    _messages.put(content)


@contextmanager
def pool(processes: int, messages: SimpleQueue[Any] | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers share what is imported (where processes can fork) and die with this process.

    Left by an exception, as when the user interrupts, it stops the workers at once.
    """
    workers = ProcessPoolExecutor(processes, _CONTEXT, _start_worker, (os.getpid(), messages))
    try:
        yield workers
    except BaseException:
        for process in list(workers._processes.values()):
            process.terminate()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _start_worker(parent: int, messages: SimpleQueue[Any] | None) -> None:
    """Leave interrupts to the parent, and do not outlive it: a killed parent cannot tell its workers."""
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
