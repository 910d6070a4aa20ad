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


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers share what is imported (where processes can fork) and die with this process.

    Left by an exception, as when the user interrupts, it stops the workers at once.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    workers = ProcessPoolExecutor(processes, context, _start_worker, (os.getpid(),))
    try:
        yield workers
    except BaseException:
        for process in list(workers._processes.values()):
            process.terminate()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Leave interrupts to the parent, and do not outlive it: a killed parent cannot tell its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
