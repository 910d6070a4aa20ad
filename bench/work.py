"""The work of a training step, counted: multiplications of its convolutions, which take nearly all of its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench import operators
from bench.cells.workload import Workload
from bench.config import Task

_SIDE = 8  # pixels: how one strategy's work compares with another's does not depend on the image
_EVALUATIONS = 7  # with Anderson's history full, each evaluation more is as much work as the last
aten = torch.ops.aten


def step_multiplications(workload: Workload) -> int:
    """Multiplications in the convolutions of one step, forward and backward, per image of 8 x 8 pixels.

    The solves are taken to make all the evaluations that they may. Casts, norms, the operator and transfers to the host
    are not counted.
    """
    channels = operators.get(workload.task.operator).image_shape_of(**workload.task.options)[0]
    task = Task(operator="GaussianBlur", options={"image_shape": [channels, _SIDE, _SIDE]})
    training = workload.training.model_copy(update={"autocast": "none", "activations": "device", "optimizer": "sgd"})
    small = replace(workload, task=task, training=training, has_values=False)
    few, one_more = (_counted(small.with_evaluations(each, each)) for each in (_EVALUATIONS, _EVALUATIONS + 1))
    solver = workload.options.solver
    total: int = few + (solver.max_evaluations - _EVALUATIONS) * (one_more - few)
    return total // small.images(1)


def _counted(workload: Workload) -> int:
    step = workload.make_step(1, torch.device("meta"))
    counted = _Multiplications()
    with counted:
        step()
    total: int = counted.total
    return total


class _Multiplications(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:
            _, weight, _, _, _, _, is_transposed = args[:7]
            images = args[0] if is_transposed else result
            self.total += images.numel() * weight[0].numel()
        elif func is aten.convolution_backward.default:
            gradient, _, weight, *_, is_transposed, _, _, mask = args
            images = args[1] if is_transposed else gradient
            self.total += images.numel() * weight[0].numel() * (bool(mask[0]) + bool(mask[1]))
        return result
