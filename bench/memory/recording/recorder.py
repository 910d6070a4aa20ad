"""Record a training step without a GPU: every allocation and free, on tensors that have no data.

The step runs on PyTorch's "meta" device, whose tensors have shapes, strides and storages but no memory. As on a
GPU, host tensors stay host tensors (Adam's step counters are real CPU tensors and are not counted).
A TorchDispatchMode sees every operation that reaches a device: a storage not seen before is an allocation; its
finaliser is the free. Views, in-place operations, saved tensors, checkpointing and custom autograd functions need no
special care, because storages live exactly as long as on a GPU.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.memory.convolution import Convolution
from bench.memory.gpus import cublas_workspace_bytes
from bench.memory.recording import boxes
from bench.memory.recording.autograd import CANDIDATES, Maker, in_place, maker, references_of_a_formula
from bench.memory.recording.composites import Give, Output, Take
from bench.memory.recording.convolving import Temporary
from bench.memory.recording.cudnn_rnn import StatesOfCard
from bench.memory.recording.initial_values import NotDrawn
from bench.memory.recording.kernels import Brackets, Plan
from bench.memory.recording.metadata import Effect, OutputCache, run_now
from bench.memory.recording.on_cuda import as_told, is_on_cuda, redirected
from bench.memory.recording.refusals import (
    DependsOnBatchError,
    FailsAtBatchError,
    NotRecordableError,
    autocast_refused,
    is_of_missing_data,
    without_data,
)
from bench.memory.recording.selecting import instead, places_of, repeated, selects
from bench.memory.recording.surroundings import as_on_a_card
from bench.memory.recording.updates import updates_noted
from bench.memory.recording.values import Values
from bench.memory.staging import DropoutStates, OnCard
from bench.memory.trace import EMPTYING, Event, Trace, agrees, constant, fitted, freed, same_sequence

aten = torch.ops.aten

Step = Callable[[], object]
MakeStep = Callable[[int, torch.device], Step]
"""`make_step(batch, device)` builds model and optimiser on `device` and returns one training step.

The step is called several times; each call is one full optimiser step on a batch that it makes or holds itself.
"""

STEPS = 2  # optimiser state appears in the first step: from the second on, every step is the same
BATCH = 2  # the trace is fitted through this batch and the next one, and checked at batch 1


def record(make_step: MakeStep, steps: int = STEPS, cache: OutputCache | None = None) -> Trace:
    """Record `steps` training steps as one trace for every batch size.

    The step is recorded at batches 2 and 3, and its first call checked at batch 1. Where batch 1 alone takes another
    path (a transposed view of one image can be contiguous, so that a copy is not needed), it is kept as an exception
    and the check is made at batch 4. Where sizes are quadratic in the batch, as of the products of all pairs of
    samples, batch 4 is recorded too and the check made at batch 5. A step may fail at batch 1 alone, as batch
    normalisation does: see `impossible` there.

    `cache` remembers what operations do; recordings with the same default dtype and card can share one.

    Raises:
        DependsOnBatchError: sizes are not quadratic in the batch, or the sequence of events depends on it.
        FailsAtBatchError: it runs at batch 2, and not at batch 3, 4 or 5.
        NotRecordableError: the step asks for the value of a tensor, or for torch.autocast.
        ValueError: less than two steps.
    """
    if steps < STEPS:
        raise ValueError(f"steps is {steps}, expected at least {STEPS}: the first step makes the optimiser's state")
    cache = cache or OutputCache()

    recordings = [
        events_of(make_step, BATCH, steps, cache),
        events_beside(make_step, BATCH + 1, steps, cache),
    ]
    _check_sequence(recordings)
    trace = fitted(BATCH, recordings)

    exceptions, impossible = {}, {}
    try:
        if agrees(trace, 1, events_beside(make_step, 1, 1, cache)):
            return trace
        exceptions[1] = constant(events_beside(make_step, 1, steps, cache))
    except FailsAtBatchError as error:
        impossible[1] = str(error)
    check = BATCH + 2
    events = events_beside(make_step, check, 1, cache)
    _check_sequence([recordings[0][: len(events)], events], check)
    if not agrees(trace, check, events):
        recordings.append(events_beside(make_step, check, steps, cache))
        _check_sequence([recordings[0], recordings[2]], check)
        trace, check = fitted(BATCH, recordings), check + 1
        events = events_beside(make_step, check, 1, cache)
        _check_sequence([recordings[0][: len(events)], events], check)
        if not agrees(trace, check, events) or (trace.curve < 0).any():
            raise DependsOnBatchError(_no_fit(recordings, events))
    trace.exceptions.update(exceptions)
    trace.impossible.update(impossible)
    return trace


def _check_sequence(recordings: Sequence[list[Event]], other_batch: int = BATCH + 1) -> None:
    """Refuse a step whose recordings at BATCH and `other_batch` differ in more than sizes."""
    one, other = recordings
    index = same_sequence(one, other)
    if index is not None:
        raise DependsOnBatchError(_differs(one, other, index, BATCH, other_batch))


def _no_fit(recordings: Sequence[list[Event]], check: list[Event]) -> str:
    """Which operation's sizes follow no quadratic: the first whose third differences are not 0, or any that differs."""
    for events in zip(*recordings, check, strict=False):
        sizes = [event.size_bytes for event in events]
        if np.diff(sizes, 3).any():
            *before, last = (f"{size}" for size in sizes)
            return (
                f"sizes are not quadratic in the batch: {events[0].op} allocates {', '.join(before)} and {last} bytes "
                f"at batches {BATCH} to {BATCH + 3}"
            )
    return "some sizes are no function of the batch that could be fitted"


def events_of(make_step: MakeStep, batch: int, steps: int, cache: OutputCache | None = None) -> list[Event]:
    """The events of one batch size, recorded on tensors without data.

    Raises:
        NotRecordableError: the step asks for the value of a tensor, or for torch.autocast.
    """
    try:
        with autocast_refused():
            return record_events(make_step, batch, torch.device("meta"), steps, cache)
    except (NotImplementedError, RuntimeError) as error:
        if not is_of_missing_data(error):
            raise
        raise NotRecordableError(without_data(error)) from error


def events_beside(make_step: MakeStep, batch: int, steps: int, cache: OutputCache | None = None) -> list[Event]:
    """The events of a batch size of a step that runs at another.

    Raises:
        FailsAtBatchError: it does not run at this one.
        NotRecordableError: as from `events_of`.
    """
    try:
        return events_of(make_step, batch, steps, cache)
    except NotRecordableError:
        raise
    except Exception as error:
        raise FailsAtBatchError(
            f"the step runs at batch {BATCH} and not at batch {batch}: {type(error).__name__}: {error}"
        ) from error


def _differs(one: list[Event], other: list[Event], index: int, batch: int, other_batch: int) -> str:
    def name(events: list[Event]) -> str:
        return events[index].op if index < len(events) else "nothing more"

    return (
        f"the sequence of allocations depends on the batch: event {index} is {name(one)} at batch {batch} "
        f"and {name(other)} at batch {other_batch}"
    )


def record_events(
    make_step: MakeStep,
    batch: int,
    device: torch.device,
    steps: int = STEPS,
    cache: OutputCache | None = None,
    locate: Callable[[], Any] | None = None,
) -> list[Event]:
    """Build the step at one batch size and record its construction and `steps` calls.

    On a real `device` this observes a real run with the same hook: the oracle of recordings without data. `locate` as
    of `Recorder`.
    """
    recorder = Recorder(device, cache, locate)
    with updates_noted() if steps >= STEPS else contextlib.nullcontext(), as_on_a_card(recorder):
        step = make_step(batch, as_told(device))
        if not callable(step):
            raise NotRecordableError(f"make_step must return a function that runs one training step, got {step!r}")
        for _ in range(steps):
            step()
        recorder.close()
    return recorder.events


class Recorder(TorchDispatchMode):
    """A dispatch mode that turns storages appearing on `device`, and dying, into events.

    `locate` is asked at every allocation where in the program it is; its answer becomes the event's source.
    """

    def __init__(
        self, device: torch.device, cache: OutputCache | None = None, locate: Callable[[], Any] | None = None
    ) -> None:
        super().__init__()
        self._locate = locate
        self.events: list[Event] = []
        self._device_type = device.type
        self._cache = cache or OutputCache()
        self.is_without_data = device.type == "meta"
        self._known: dict[int, tuple[int, int, weakref.ref[Any], Maker]] = {}
        self._next_key = 0
        self._values = Values() if is_on_cuda() else None
        self._not_drawn = NotDrawn()
        self._cublas_threads: set[bool] = set()
        self._names: dict[int, str] = {}
        self._open = True
        references_of_a_formula()  # found now, before this mode is on

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not needed: nothing here is compiled, and the guard against it costs as much as the rest of a call."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then note the storages that it brought."""
        if id(func) in CANDIDATES and isinstance(args[0], Tensor):
            known = self._known.get(args[0].untyped_storage()._cdata)
            if known is not None:
                func = in_place(func, args, known[3])
        kwargs = kwargs or {}
        if self._values is not None:
            if "device" in kwargs:  # named by a function that the program took out of torch before, as `rand` by import
                kwargs = {**kwargs, "device": redirected(kwargs["device"])}
            left_out = self._not_drawn.answer(func, args, kwargs)
            if left_out is not None:
                return left_out
            answer = self._values.answer(func, args, kwargs)
            if answer is not None:
                return answer[0]
            if func._name == boxes.NAME:
                with self:
                    return boxes.kept(*args)
            if selects(func, args):
                return self._select(func, args, kwargs)
        if not self.is_without_data:
            is_view = self._cache.effect(func) is Effect.VIEWS
            result, outputs, plan = (func(*args, **kwargs), (), ()) if is_view else run_now(func, args, kwargs)
        else:
            known_storages = self._known
            for value in args:  # torch.tensor(...) bypasses dispatch: its storage appears at first use
                for each in value if type(value) is list else (value,):
                    if isinstance(each, Tensor) and each.untyped_storage()._cdata not in known_storages:
                        self._note(each, func)
            result, outputs, plan = self._cache.call(func, args, kwargs)
            if self._values is not None and self._cache.effect(func) is not Effect.VIEWS:
                self._values.follow(func, args, kwargs, result)
        if plan and self._open:
            self._carry_out(plan, outputs, func)
        return result

    def _select(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Find the places that a call selects, then carry it out at these."""
        values = self._values
        assert values

        def places(mask: Tensor) -> Tensor:
            found = places_of(mask, values)
            if self._open:
                self._carry_out(found.plan, [found.places], func)
            return found.places

        if func is aten.nonzero.default:
            return places(args[0])
        if func is aten.repeat_interleave.Tensor:
            with self:
                return repeated(args[0], values, **kwargs)
        func, args = instead(func, args, places)
        return self.__torch_dispatch__(func, (), args, kwargs)

    def _carry_out(self, plan: Plan, outputs: Sequence[Tensor | None], func: Any) -> None:
        """Note what an operation allocates and frees, in order."""
        keys: dict[int, int] = {}
        bounds: set[int] = set()
        for item in plan:
            if type(item) is Output:
                place, on_a_card = item
                self._note(outputs[place], func, on_a_card)
            elif type(item) is Take:
                number, size_bytes, is_most = item
                keys[number] = self._allocate(size_bytes, is_most, func)
                if is_most:
                    bounds.add(number)
            elif type(item) is Give:
                key = keys[item.number]
                of_bound = item.number in bounds
                self.events.append(Event(key, 0, True, self._name(func), is_free=True) if of_bound else freed(key))
            elif isinstance(item, Temporary):
                self._note_temporary(item, func)
            elif isinstance(item, Brackets):
                self._note_staging(item, func)
            elif isinstance(item, StatesOfCard):
                self._note(outputs[item.place], func, staged=DropoutStates())
            else:
                self._note_cublas_workspace(func)

    def key_of(self, tensor: Tensor) -> int | None:
        """The key under which the tensor's storage is allocated; None if it takes no memory here."""
        known = self._known.get(tensor.untyped_storage()._cdata)
        return known and known[0]

    def note_emptying(self) -> None:
        """The program empties the allocator's cache."""
        self.note_told(EMPTYING)

    def note_told(self, operation: str) -> None:
        """The program tells the allocator something."""
        if self._open:
            self._allocate(0, False, operation)

    def close(self) -> None:
        """Stop recording; what dies from now on leaves no event."""
        self._open = False

    def _name(self, func: Any) -> str:
        name = self._names.get(id(func))
        if name is None:
            name = self._names[id(func)] = str(func)  # a text that is told is its own name, and so stays
        return name

    def _note(self, tensor: Any, func: Any, on_a_card: int | None = None, staged: OnCard | None = None) -> None:
        """Note a tensor's storage if it is new; `on_a_card` are its bytes there if they are others, or `staged`."""
        if not (tensor.is_meta if self.is_without_data else tensor.device.type == self._device_type):
            return
        storage = tensor.untyped_storage()
        address, size_bytes = storage._cdata, storage.nbytes()
        known = self._known.get(address)
        if known is None and size_bytes == 0:
            return  # takes no memory
        if known is not None and known[1] == size_bytes:
            return
        if on_a_card == 0:  # on a GPU it is on the host
            self._known[address] = (
                -1,
                size_bytes,
                weakref.ref(storage, lambda _: self._known.pop(address)),
                maker(func),
            )
            return
        size_on_card = size_bytes if on_a_card is None else on_a_card
        key = self._allocate(size_on_card if staged is None else 0, False, func, staged=staged)
        if known is not None:  # resized in place: PyTorch allocates anew, copies, then frees
            self._free(address, known[0])
        end = weakref.ref(storage, lambda _: self._free(address, key))
        self._known[address] = (key, size_bytes, end, maker(func))

    def _note_temporary(self, temporary: Temporary, func: Any) -> None:
        key = self._allocate(temporary.most_bytes, True, func, temporary.call)
        self.events.append(Event(key, 0, True, self._name(func), is_free=True))

    def _note_staging(self, brackets: Brackets, func: Any) -> None:
        keys = [self._allocate(0, False, func, staged=staged) for staged in brackets.staged]
        self.events += map(freed, reversed(keys))

    def _note_cublas_workspace(self, func: Any) -> None:
        in_backward = _in_backward()
        if in_backward not in self._cublas_threads:
            self._cublas_threads.add(in_backward)
            self._allocate(cublas_workspace_bytes(), False, func, is_cublas=True)

    def _allocate(
        self,
        size_bytes: int,
        workspace: bool,
        func: Any,
        call: Convolution | None = None,
        is_cublas: bool = False,
        staged: OnCard | None = None,
    ) -> int:
        key = self._next_key
        self._next_key += 1
        source = self._locate() if self._locate else None
        in_backward = call is not None and _in_backward()
        name = self._names.get(id(func)) or self._name(func)
        fields = key, size_bytes, workspace, name, call, source, is_cublas, in_backward, staged, False
        self.events.append(tuple.__new__(Event, fields))  # without what naming the fields costs
        return key

    def _free(self, address: int, key: int) -> None:
        del self._known[address]
        if self._values is not None:
            self._values.forget(address)
        if self._open:
            self.events.append(freed(key))


def _in_backward() -> bool:
    """Whether the autograd engine runs the operation: on a GPU, it does so in a thread of its own."""
    return torch._C._current_graph_task_id() != -1
