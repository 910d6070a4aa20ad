"""The process that has the virtual card preloaded: python -m bench.virtual.worker FD PARENT.

It imports PyTorch, and forks a process for each task that comes through the file descriptor.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from multiprocessing.connection import Connection

import torch
import torch._dynamo  # the first optimiser would import it: seconds, in every fork

from bench.memory.measuring.cuda import Measurement, measure_here
from bench.memory.recording.recorder import MakeStep
from bench.virtual.device import Failed, Task, VirtualMeasurement
from bench.virtual.figures import Figures
from bench.workers import begin

_NAME_BYTES = 256


def main() -> None:
    """Answer tasks until the other end is closed."""
    connection, parent = Connection(int(sys.argv[1])), int(sys.argv[2])
    os.environ.pop("LD_PRELOAD", None)  # no process of a step's own has the card
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # it is about other cards
    _warm_up()
    unknown = mmap.mmap(-1, _NAME_BYTES)  # shared with the forks: outlives one that dies
    connection.send("ready")
    while os.getppid() == parent:
        if not connection.poll(1.0):
            continue
        try:
            content = connection.recv_bytes()
        except EOFError:
            return
        unknown[:] = bytes(_NAME_BYTES)
        child = os.fork()
        if not child:
            _carry_out(content, connection, unknown)
        _, status = os.waitpid(child, 0)
        if status:
            connection.send(Failed(_reason(os.waitstatus_to_exitcode(status), unknown)))


def _warm_up() -> None:
    """What PyTorch's kernels in Triton do first, a hash of all of Triton: half a second, in every fork."""
    with suppress(ImportError):
        from triton.runtime.cache import triton_key

        triton_key()


def tell(figures: Figures) -> ctypes.CDLL:
    """Make the card what the figures say; the library, to ask what it noted. CUDA must not have been used yet.

    Raises:
        RuntimeError: the library does not know a figure: it is another version's.
    """
    library = ctypes.CDLL(None)
    refused = [
        name
        for name, value in figures.numbers.items()
        if library.virtual_card_set(name.encode(), ctypes.c_int64(value))
    ]
    if refused or library.virtual_card_describe(figures.name.encode(), figures.cudnn_json.encode()):
        raise RuntimeError(f"the virtual card cannot be told {', '.join(refused) or 'its name'}")
    for function in (library.virtual_card_values_read, library.virtual_card_selections):
        function.restype = ctypes.c_int64
    library.virtual_card_lower_bounds.restype = ctypes.c_char_p
    return library


def _carry_out(content: bytes, connection: Connection, unknown: mmap.mmap) -> None:
    """In a fork: the task, then the end of the process. Exit code 0 says that an answer was sent."""
    try:
        begin(os.getppid())
        task: Task = pickle.loads(content)
        library = tell(task.figures)
        library.virtual_card_report_to((ctypes.c_char * _NAME_BYTES).from_buffer(unknown), _NAME_BYTES)
        answer: VirtualMeasurement | Failed = _measured(task, library)
    except Exception as error:  # noqa: BLE001 - whatever it is goes to the parent, which raises it as IsolatedError
        message = " ".join(str(error).split()) or "no message"
        answer = Failed(_unknown(unknown) or f"{type(error).__name__}: {message}")
    connection.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _measured(task: Task, library: ctypes.CDLL) -> VirtualMeasurement:
    trial = task.trial
    if task.with_events:
        trial = replace(trial, make_step=partial(_make_recorded_step, trial.make_step))
    seen = measure_here(trial)
    values = {field.name: getattr(seen, field.name) for field in fields(Measurement)}
    return VirtualMeasurement(
        **(values | {"step_seconds": None}),  # time on the host means nothing
        values_read=library.virtual_card_values_read(),
        selections=library.virtual_card_selections(),
        lower_bounds=tuple(library.virtual_card_lower_bounds().decode().split()),
        events=tuple(_events()) if task.with_events else (),
    )


def _make_recorded_step(make_step: MakeStep, batch: int, device: torch.device) -> Callable[[], object]:
    torch.cuda.memory._record_memory_history(context=None, max_entries=sys.maxsize)
    return make_step(batch, device)


def _events() -> Iterator[int]:
    """What PyTorch's allocator was asked for since then: bytes, or -k for the free of the k-th last allocation."""
    numbers: dict[int, int] = {}
    allocations = 0
    for event in torch.cuda.memory._snapshot()["device_traces"][0]:
        if event["action"] == "alloc":
            allocations += 1
            numbers[event["addr"]] = allocations
            yield event["size"]
        elif event["action"] == "free_completed":
            yield numbers.pop(event["addr"]) - allocations - 1


def _unknown(shared: mmap.mmap) -> str | None:
    """What is to be said if the library met a function that it does not know."""
    name = shared[:].split(b"\0", 1)[0].decode()
    return f"the step calls {name}, which the virtual card does not know: use --engine simulated" if name else None


def _reason(exit_code: int, unknown: mmap.mmap) -> str:
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    return _unknown(unknown) or f"its process died ({how})"


if __name__ == "__main__":
    assert torch.version.cuda
    main()
