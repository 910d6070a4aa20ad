"""What a step does that decides how else it could be run: bytes that its kernels move, and a few facts.

It is recorded once more for this, and the recording thrown away: who looks on must not change what is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.memory import MakeStep
from bench.memory.recording.recorder import events_of

aten = torch.ops.aten
_IMAGES = 4  # dimensions
_is_meta: Callable[[Tensor], bool] = torch._C.TensorBase.is_meta.__get__  # type: ignore[attr-defined]
_UNREAD = ("empty", "new_empty", "resize")


@dataclass
class Observed:
    """What was seen in all calls of a step.

    Attributes:
        kernel_bytes: What the operations of each call read and write, all tensors that they are given and return.
        host_bytes: What torch.autograd.graph.save_on_cpu brings to the host in each call; as much comes back.
        updates: How often an optimiser's step is made.
        backwards: How often backward is called.
        clears: How often gradients are cleared.
        fills_with_zeros: Whether they are filled with zeros, and not let go.
        autocasts: Whether it enters torch.autocast.
        normalises_batches: Whether batch normalisation takes a batch's own statistics.
        convolves_images: Whether there is a convolution with weights of four dimensions.
        optimizers: Kinds of torch.optim that it makes, by name.
    """

    kernel_bytes: list[int] = field(default_factory=list)
    host_bytes: list[int] = field(default_factory=list)
    updates: int = 0
    backwards: int = 0
    clears: int = 0
    fills_with_zeros: bool = False
    autocasts: bool = False
    normalises_batches: bool = False
    convolves_images: bool = False
    optimizers: set[str] = field(default_factory=set)


def _as_it_is(make_step: MakeStep) -> MakeStep:
    return make_step


def observe(
    make_step: MakeStep, batch: int, steps: int, changed: Callable[[MakeStep], MakeStep] = _as_it_is
) -> Observed:
    """Look on while `steps` calls of a step run on tensors without data; within `on_cuda`.

    `changed` makes of a step another that calls it; its own calls are what is looked at.

    Raises:
        NotRecordableError: the step cannot be recorded.
    """
    observed = Observed()

    def inner(batch: int, device: torch.device) -> Callable[[], object]:
        step = make_step(batch, device)

        def call() -> object:
            observed.kernel_bytes.append(0)
            observed.host_bytes.append(0)
            with _Kernels(observed):
                return step()

        return call

    def outer(batch: int, device: torch.device) -> Callable[[], object]:
        with _optimizers_seen(observed):
            step = changed(inner)(batch, device)

        def run() -> object:
            with _calls_seen(observed):
                return step()

        return run

    events_of(outer, batch, steps)
    return observed


class _Kernels(TorchDispatchMode):
    """Counts what each operation reads and writes."""

    def __init__(self, observed: Observed) -> None:
        super().__init__()
        self._observed = observed

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        seen = self._observed
        name = func.overloadpacket.__name__
        if func.is_view or name.startswith(_UNREAD):
            return result
        tensors = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor)]
        seen.kernel_bytes[-1] += sum(each.numel() * each.element_size() for each in tensors if _is_meta(each))
        if func is aten.convolution.default:
            seen.convolves_images |= args[1].dim() == _IMAGES
        elif "batch_norm" in name and "backward" not in name:
            seen.normalises_batches |= _is_training(func, args)
        return result


def _is_training(func: Any, args: Any) -> bool:
    names = [each.name for each in func._schema.arguments]
    return "training" not in names or bool(args[names.index("training")])


@contextlib.contextmanager
def _optimizers_seen(observed: Observed) -> Iterator[None]:
    begin = Optimizer.__init__

    def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        kinds = (each for each in type(optimizer).__mro__ if each.__module__.startswith("torch.optim."))
        kind = next(kinds)
        if kind is not Optimizer:
            observed.optimizers.add(kind.__name__)
        begin(optimizer, *args, **kwargs)

    with patch.object(Optimizer, "__init__", init):
        yield


@contextlib.contextmanager
def _calls_seen(observed: Observed) -> Iterator[None]:
    backward, enter, saving = torch.autograd.backward, torch.autocast.__enter__, save_on_cpu.__init__

    def seen_backward(*args: Any, **kwargs: Any) -> None:
        observed.backwards += 1
        backward(*args, **kwargs)

    def seen_enter(context: torch.autocast) -> Any:
        observed.autocasts |= context._enabled
        return enter(context)

    def seen_saving(saves: save_on_cpu, *args: Any, **kwargs: Any) -> None:
        saving(saves, *args, **kwargs)
        pack = saves.pack_hook

        def counted(tensor: Tensor) -> Any:
            if _is_meta(tensor):
                observed.host_bytes[-1] += tensor.numel() * tensor.element_size()
            return pack(tensor)

        saves.pack_hook = counted

    def seen_clearing(zero_grad: Callable[..., None]) -> Callable[..., None]:
        def clear(owner: Any, set_to_none: bool = True) -> None:
            observed.clears += 1
            observed.fills_with_zeros |= not set_to_none
            zero_grad(owner, set_to_none)

        return clear

    def seen_update(*_: Any) -> None:
        observed.updates += 1

    hook = register_optimizer_step_pre_hook(seen_update)
    try:
        with contextlib.ExitStack() as patches:
            patches.enter_context(patch.object(torch.autograd, "backward", seen_backward))
            patches.enter_context(patch.object(torch.autocast, "__enter__", seen_enter))
            patches.enter_context(patch.object(save_on_cpu, "__init__", seen_saving))
            for kind in (Optimizer, nn.Module):
                patches.enter_context(patch.object(kind, "zero_grad", seen_clearing(kind.zero_grad)))
            yield
    finally:
        hook.remove()
