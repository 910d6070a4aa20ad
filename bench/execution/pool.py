"""A pool of processes for what cannot fail a cell, such as pictures; cells themselves have bench.execution.workers."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from bench.execution.workers import begin


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers share what is imported (where processes can fork) and die with this process.

    Left by an exception, as when the user interrupts, it stops the workers at once.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    workers = ProcessPoolExecutor(processes, context, begin, (os.getpid(),))
    try:
        yield workers
    except BaseException:
        for process in list(workers._processes.values()):
            process.kill()
        raise
    finally:
        workers.shutdown(cancel_futures=True)
