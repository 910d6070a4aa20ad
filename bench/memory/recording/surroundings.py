"""What surrounds a step that is recorded: everything that makes it do what it does on a card."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any, Protocol
from unittest.mock import patch

import torch

from bench.memory.recording.allocator_told import allocator_heard
from bench.memory.recording.cells import cells_of_a_card
from bench.memory.recording.ctc import ctc_without_data
from bench.memory.recording.emptying import Hearer, emptying_noted
from bench.memory.recording.gradient_thread import numbered_as_on_a_card
from bench.memory.recording.initial_values import nothing_rejected
from bench.memory.recording.inspections import inspected
from bench.memory.recording.missing import nothing_missing
from bench.memory.recording.moving import parameters_kept
from bench.memory.recording.not_recorded import compilation_said
from bench.memory.recording.on_cuda import is_on_cuda
from bench.memory.recording.optimizers import kernels_of_a_gpu
from bench.memory.recording.recurrent import layers_of_cudnn


class SeesOperations(Hearer, Protocol):
    """A recorder, within whose context operations are seen."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> object: ...

    def note_told(self, operation: str) -> None:
        """The program tells the allocator something."""
        ...


@contextlib.contextmanager
def as_on_a_card(recorder: SeesOperations) -> Iterator[None]:
    """Within this context a step is built and called as on a card, and what is left out of it is said at the end.

    `recorder` sees the operations: it is entered last.
    """
    with (
        no_garbage_collection(),
        kernels_of_a_gpu(),
        ctc_without_data(),
        cells_of_a_card(),
        inspected(),
        nothing_missing(),
        no_inference_tensors(),
        parameters_kept(),
        nothing_rejected(is_on_cuda),
        compilation_said(),
        layers_of_cudnn(),
        numbered_as_on_a_card(),
        emptying_noted(recorder),
        allocator_heard(recorder.note_told),
        recorder,
    ):
        yield


@contextlib.contextmanager
def no_inference_tensors() -> Iterator[None]:
    """Within this context torch.inference_mode does what torch.no_grad does, which takes the same memory.

    Under inference mode a recorder would see whole layers as one operation, in place of the kernels that a card runs.
    """

    def enter(mode: torch.inference_mode) -> None:
        mode._inference_mode_context = torch.set_grad_enabled(not mode.mode)  # type: ignore[assignment]
        mode._inference_mode_context.__enter__()

    with patch.object(torch.inference_mode, "__enter__", enter):
        yield


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Reference cycles die only when the collector runs, at a time nobody chose: keep them alive throughout."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
