"""The process that has the virtual card preloaded: python -m bench.virtual.worker FD PARENT.

It imports PyTorch, and forks a process for each task that comes through the file descriptor.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import mmap
import os
import pickle
import pickletools
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimiser would import it: seconds, in every fork

from bench.execution.workers import begin
from bench.memory.allocator.caching import FREE, Act
from bench.memory.measuring.cuda import Measurement, measure_here
from bench.memory.recording.emptying import emptying_noted
from bench.memory.recording.places import place, sentence
from bench.virtual.device import Failed, Task, VirtualMeasurement
from bench.virtual.figures import Figures
from bench.virtual.gradient_threads import done_before_the_program_goes_on

_NAME_BYTES = 256
_ANSWERED = 213  # an exit code that no step has by chance
_OURS = "bench."
_LATE_MODULES = ("triton.compiler.code_generator", "triton.experimental.gluon")


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
        except (EOFError, OSError):
            return
        _import_ours(content)
        unknown[:] = bytes(_NAME_BYTES)
        child = os.fork()
        if not child:
            _carry_out(content, connection, unknown)
        _, status = os.waitpid(child, 0)
        exit_code = os.waitstatus_to_exitcode(status)
        if exit_code != _ANSWERED:
            connection.send(Failed(_reason(exit_code, unknown)))


def _warm_up() -> None:
    """Once, what every fork would do anew: load what PyTorch loads when a step first comes to it.

    Then Python's collector is told that all this stays. Else it would look at all objects there are, in every fork, and
    so copy the pages that they are in.
    """
    for path in _late_libraries():
        ctypes.CDLL(path)
    with suppress(ImportError):
        for name in _LATE_MODULES:
            importlib.import_module(name)
        from triton.runtime.cache import triton_key

        triton_key()  # a hash of all of Triton: half a second
    gc.collect()
    gc.freeze()


def _import_ours(content: bytes) -> None:
    """Import the modules of bench that a task names, which else each fork would do. The user's stay for the fork."""
    named = {text for _, text, _ in pickletools.genops(content) if isinstance(text, str)}
    for name in sorted(named - sys.modules.keys()):
        if name.startswith(_OURS):
            with suppress(ImportError):  # a text that is no module's name
                importlib.import_module(name)
    gc.freeze()


def _late_libraries() -> list[str]:
    """The parts of cuDNN, beside its first one, and PyTorch's linear algebra."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    loaded = {Path(line.split(maxsplit=5)[-1]) for line in mapped if ".so" in line}
    parts = (path.parent.glob("libcudnn_*.so*") for path in loaded if path.name.startswith("libcudnn.so"))
    linear_algebra = Path(torch.__file__).parent.glob("lib/libtorch_cuda_linalg.so")
    return [*map(str, itertools.chain(*parts)), *map(str, linear_algebra)]


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
    for function in (
        library.virtual_card_values_read,
        library.virtual_card_selections,
        library.virtual_card_strays,
    ):
        function.restype = ctypes.c_int64
    for function in (library.virtual_card_lower_bounds, library.virtual_card_upper_bounds):
        function.restype = ctypes.c_char_p
    return library


def _carry_out(content: bytes, connection: Connection, unknown: mmap.mmap) -> None:
    """In a fork: the task, then the end of the process, whose exit code says that an answer was sent."""
    try:
        begin(os.getppid())
        task: Task = pickle.loads(content)
        library = tell(task.figures)
        for read in task.trial.reads or ():
            library.virtual_card_tell(read.content, ctypes.c_size_t(read.size_bytes))
        library.virtual_card_report_to((ctypes.c_char * _NAME_BYTES).from_buffer(unknown), _NAME_BYTES)
        answer: VirtualMeasurement | Failed = _measured(task, library)
    except BaseException as error:  # noqa: BLE001 - whatever it is, an exit too, goes to the parent: IsolatedError
        answer = Failed(_unknown(unknown, place(error)) or _said(error))
    connection.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_ANSWERED)


def _measured(task: Task, library: ctypes.CDLL) -> VirtualMeasurement:
    ends: list[int] = []  # of setup and of each step: how many allocations and frees there were
    in_steps: list[tuple[int, int]] = []

    def make_step(batch: int, device: torch.device) -> Callable[[], object]:
        if task.trial.with_events:
            torch.cuda.memory._record_memory_history(context=None, max_entries=sys.maxsize)
        step = task.trial.make_step(batch, device)
        ends.append(_events_so_far())

        def counted() -> None:
            before = _counts(library)
            step()
            values, selections = _counts(library)
            in_steps.append((values - before[0], selections - before[1]))
            ends.append(_events_so_far())

        return counted

    emptyings = _Emptyings()
    with emptying_noted(emptyings), done_before_the_program_goes_on():
        seen = measure_here(replace(task.trial, make_step=make_step))
    values = {field.name: getattr(seen, field.name) for field in fields(Measurement)}
    values_read, selections = in_steps[-1] if in_steps else _counts(library)
    trace = torch.cuda.memory._snapshot()["device_traces"][0] if task.trial.with_events else ()
    events, failures = history_of(trace)
    return VirtualMeasurement(
        **(values | {"step_seconds": None}),  # time on the host means nothing
        values_read=values_read,
        selections=selections,
        lower_bounds=tuple(library.virtual_card_lower_bounds().decode().split()),
        upper_bounds=tuple(library.virtual_card_upper_bounds().decode().split()),
        events=events[: ends[-1]] if seen.fits else events,
        setup=ends[0] if ends else len(events),
        failures=failures,
        emptyings=tuple(emptyings.at),
        strays=library.virtual_card_strays(),
        host_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


class _Emptyings:
    """When the step empties the cache: `at` has how many allocations and frees there were before."""

    is_without_data = False

    def __init__(self) -> None:
        self.at: list[int] = []

    def note_emptying(self) -> None:
        self.at.append(_events_so_far())


def _counts(library: ctypes.CDLL) -> tuple[int, int]:
    """Copies to the host, and kernels that select by value, since the process began."""
    return library.virtual_card_values_read(), library.virtual_card_selections()


def _events_so_far() -> int:
    """How often PyTorch's allocator allocated and freed."""
    statistics = torch.cuda.memory_stats()
    return int(statistics.get("allocation.all.allocated", 0) + statistics.get("allocation.all.freed", 0))


def history_of(
    trace: Iterable[Mapping[str, Any]],
) -> tuple[tuple[tuple[int, int | Act], ...], tuple[tuple[int, int], ...]]:
    """A trace of PyTorch's allocator, as in its snapshots: `events` and `failures` of VirtualMeasurement."""
    keys = itertools.count()
    key_at: dict[int, int] = {}
    events: list[tuple[int, int | Act]] = []
    failures: list[tuple[int, int]] = []
    for entry in trace:
        if entry["action"] == "alloc":
            key_at[entry["addr"]] = key = next(keys)
            events.append((key, entry["size"]))
        elif entry["action"] == "free_completed":
            events.append((key_at.pop(entry["addr"]), FREE))
        elif entry["action"] == "oom":
            failures.append((len(events), entry["size"]))
    return tuple(events), tuple(failures)


def _said(error: BaseException) -> str:
    """An error of a step, at the user's line, and whether values of the card may be what is wrong."""
    said = sentence(error)
    values, selections = _counts(ctypes.CDLL(None))
    if values or selections:
        said += "; the step uses values of the card before, which has none: they are zeros, and selections empty"
    return said


def _unknown(shared: mmap.mmap, where: str = "") -> str | None:
    """What is to be said if the library met a function that it does not know."""
    name = shared[:].split(b"\0", 1)[0].decode()
    if not name:
        return None
    place_ = f" ({where})" if where else ""
    return f"the step calls {name}{place_}, which the virtual card does not know: use --engine simulated"


def _reason(exit_code: int, unknown: mmap.mmap) -> str:
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    return _unknown(unknown) or f"its process died ({how})"


if __name__ == "__main__":
    assert torch.version.cuda
    main()
