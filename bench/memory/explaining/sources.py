"""Where a step's memory comes from: the step, phase, module and line of every allocation, and who owns it.

Watching can keep a graph alive a moment longer, and so change the order of frees. The step is therefore recorded once
more for its sources alone: the same allocations must appear, and the events of the trace itself stay undisturbed.

Lines of a backward pass are those of the forward pass that they belong to: PyTorch's anomaly mode notes for each node
of the graph where it was made. Owners are asked, not guessed: a module names its parameters and buffers, a parameter
has its gradient, an optimiser its state.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import sys
import weakref
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from bench.memory.recording import gradient_thread
from bench.memory.recording.on_cuda import as_told
from bench.memory.recording.recorder import STEPS, MakeStep, Recorder
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.recording.surroundings import as_on_a_card
from bench.memory.trace import Trace


class Phase(str, Enum):
    """What a training step is doing; INPUT is before its first module is called."""

    SETUP = "setup"
    INPUT = "input"
    FORWARD = "forward"
    BACKWARD = "backward"
    RECOMPUTATION = "recomputation"  # a piece of graph built anew inside the backward pass
    UPDATE = "update"


class Owner(str, Enum):
    """Who holds a tensor for good."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    GRADIENT = "gradient"
    OPTIMIZER = "optimizer"


class Frame(NamedTuple):
    """A line of the program; `file` is relative to where it is imported from."""

    file: str
    line: int
    function: str


class Source(NamedTuple):
    """Where one allocation comes from.

    `step` counts from 1, and is 0 while the step is being built. `module` is the qualified name of the module whose
    method runs, the innermost if there are several, or of the tensor if it has an owner. `stack` is the user's part of
    the call stack, innermost frame first, without PyTorch's own frames.
    """

    step: int
    phase: Phase
    module: str
    stack: tuple[Frame, ...]
    op: str = ""
    owner: Owner | None = None

    @property
    def place(self) -> str:
        """The innermost line, after the one of another file that led there: "models/net.py:51 > models/layers.py:7"."""
        if not self.stack:
            return ""
        innermost = self.stack[0]
        callers = (frame for frame in self.stack if frame.file != innermost.file)
        frames = (*itertools.islice(callers, 1), innermost)
        return " > ".join(f"{frame.file}:{frame.line}" for frame in frames)

    @property
    def short_op(self) -> str:
        """The operation's name as people say it: "convolution"."""
        return self.op.removeprefix("aten.").removesuffix(".default")


def locate(make_step: MakeStep, trace: Trace, batch: int, steps: int = STEPS) -> list[Source]:
    """The source of every allocation of a recorded step, by its key in the trace.

    Raises:
        NotRecordableError: the step allocates something else while it is watched.
    """
    watch = _Watch()
    recorder = Recorder(torch.device("meta"), locate=watch.here)
    anomaly = torch.autograd.set_detect_anomaly(True, check_nan=False)
    with as_on_a_card(recorder), anomaly, watch.hooks(recorder):
        step = make_step(batch, as_told(torch.device("meta")))
        for number in range(1, steps + 1):
            watch.step, watch.phase = number, Phase.INPUT
            step()
    found = [event for event in recorder.events if not event.is_free]

    trace = trace.of(batch)
    columns = (each[~trace.is_free].tolist() for each in (trace.key, trace.sizes(batch), trace.op))
    expected = [(key, size_bytes, trace.op_names[op]) for key, size_bytes, op in zip(*columns, strict=True)]
    if expected != [(event.key, event.size_bytes, event.op) for event in found]:
        raise NotRecordableError("the step allocates something else while its sources are recorded")
    sources = []
    for event in found:
        source: Source = event.source
        owner, name = watch.owners.get(event.key, (None, source.module))
        no_module_called = source.phase is Phase.INPUT and not watch.names
        phase = Phase.FORWARD if no_module_called else source.phase
        sources.append(source._replace(phase=phase, op=event.op, owner=owner, module=name))
    return sources


class _Watch:
    """Follows modules and optimisers through a step, and says at any time where the program is.

    Attributes:
        step: Which step runs, from 1; 0 before the first.
        phase: SETUP, INPUT or FORWARD; `here` sees the others.
        names: Qualified names of the modules that a step called, and of their submodules.
        owners: Owner and qualified name of the tensor, by the key of its storage.
    """

    def __init__(self) -> None:
        self.step = 0
        self.phase = Phase.SETUP
        self.names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self.owners: dict[int, tuple[Owner, str]] = {}
        self._roots: weakref.WeakKeyDictionary[nn.Module, None] = weakref.WeakKeyDictionary()
        self._depth = 0  # of modules being called

    @contextlib.contextmanager
    def hooks(self, recorder: Recorder) -> Iterator[None]:
        """Within this context every module and optimiser is followed."""
        handles = (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
            register_optimizer_step_pre_hook(lambda optimizer, *_: self._ask(optimizer, recorder)),
            register_optimizer_step_post_hook(lambda optimizer, *_: self._ask(optimizer, recorder)),
        )
        try:
            with patch.object(torch.fx.traceback, "format_stack", gradient_thread.formatted_stack):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def here(self) -> Source:
        """Where the program is, as a source without operation and owner."""
        phase = self.phase
        in_engine = torch._C._current_graph_task_id() != -1
        if in_engine:
            phase = Phase.RECOMPUTATION if torch.is_grad_enabled() else Phase.BACKWARD
        stack: list[Frame] = []
        module = ""
        for frame in gradient_thread.frames(sys._getframe(1)):
            code = frame.f_code
            if code.co_filename == __file__:
                break
            module = module or self._running_in(frame)
            if in_engine and code is _ENGINE:
                made_at = _made_at(torch._C._current_autograd_node())
                if made_at:
                    stack += made_at
                    break
            elif code.co_filename.startswith(_OPTIMIZERS):
                phase = Phase.UPDATE
            elif code.co_filename == torch.autograd.__file__ and not in_engine:
                phase = Phase.BACKWARD  # about to begin
            if _is_users(code.co_filename):
                stack.append(Frame(_relative(code.co_filename), frame.f_lineno, code.co_name))
        return Source(self.step, phase, module, tuple(stack))

    def _running_in(self, frame: FrameType) -> str:
        """The name of the module whose method, or function made in one, this frame runs; "" if it is of none."""
        code = frame.f_code
        if not self.names or "self" not in (*code.co_varnames[:1], *code.co_freevars):
            return ""
        module = frame.f_locals.get("self")
        return self.names.get(module, "") if isinstance(module, nn.Module) else ""

    def _enter(self, module: nn.Module, args: Any) -> None:
        if self.phase is Phase.INPUT:
            self.phase = Phase.FORWARD
        if self.step and not self._depth and module not in self.names:
            self._roots[module] = None
            self.names.update((part, name or type(part).__name__) for name, part in module.named_modules())
        self._depth += 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._depth -= 1

    def _ask(self, optimizer: Optimizer, recorder: Recorder) -> None:
        """Note what the modules called so far and this optimiser hold."""
        parameters: dict[Tensor, str] = {}
        for root in self._roots:
            parameters |= {parameter: name for name, parameter in root.named_parameters()}
            for name, buffer in root.named_buffers():
                self._own(recorder.key_of(buffer), Owner.BUFFER, name)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameters.setdefault(parameter, "")
        for parameter, name in parameters.items():
            self._own(recorder.key_of(parameter), Owner.PARAMETER, name)
            if parameter.grad is not None:
                self._own(recorder.key_of(parameter.grad), Owner.GRADIENT, name)
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor):
                    self._own(recorder.key_of(value), Owner.OPTIMIZER, name)

    def _own(self, key: int | None, owner: Owner, name: str) -> None:
        if key is not None:
            self.owners[key] = owner, name


_TORCH = str(Path(torch.__file__).parent) + os.sep
_OPTIMIZERS = str(Path(_TORCH) / "optim") + os.sep
_HERE = str(Path(__file__).parents[1]) + os.sep
_STEP_AROUND_A_NETWORK = str(Path(__file__).parents[2] / "model_step.py")
_BENCH = str(Path(__file__).parents[2])
_ENGINE = torch.autograd.graph._engine_run_backward.__code__
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)')


def _made_at(node: Any) -> list[Frame]:
    """The user's frames, innermost first, that made a node of the graph; none if it does not know."""
    frames: list[Frame] = []
    for text in reversed(node.metadata.get("traceback_", ()) if node is not None else ()):
        file, frame = _parsed(text)
        if file == __file__:  # what follows called the step
            break
        if frame is not None:
            frames.append(frame)
    return frames


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[str, Frame | None]:
    """The file of one entry of a formatted traceback, and its frame if that is the user's."""
    match = _FRAME.match(text)
    if match is None:
        return "", None
    file = match["file"]
    return file, Frame(_relative(file), int(match["line"]), match["function"]) if _is_users(file) else None


@functools.cache
def _is_users(file: str) -> bool:
    return not file.startswith((_TORCH, _HERE, _STEP_AROUND_A_NETWORK, "<"))


@functools.cache
def _relative(file: str) -> str:
    """The file as seen from the folder in which Python found its package; links inside bench are followed first."""
    if file.startswith(_BENCH + os.sep):
        file = os.path.realpath(file)
    folders = [os.path.dirname(_BENCH), *map(os.path.abspath, sys.path)]
    roots = [folder for folder in folders if file.startswith(folder + os.sep)]
    return file[len(max(roots, key=len)) + 1 :] if roots else os.path.basename(file)
