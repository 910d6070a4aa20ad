"""How far a strategy's gradient is from the exact one: measured on a small batch, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.cells.workload import Workload

if TYPE_CHECKING:
    from bench.models.architectures.base import Architecture

IMAGES = 4


def gradient_bias(workload: Workload, device: torch.device) -> float:
    """|g - g*| / |g*| of one batch's gradient g, all parameters together, at the start of training.

    g* is that of the graph which autograd keeps by itself, with an exact solve of each fixed point. Both have the same
    parameters and images, in float64; where a strategy computes in another type, g starts from float32.

    Args:
        workload: with its strategy.
        device: where both are computed.
    """
    options = replace(workload.options, gradient="one-graph", checkpoint=False, checkpoint_layers=0, kept_share=None)
    changes = {"autocast": "none", "micro_batches": 1, "activations": "device", "memory_format": "contiguous"}
    exact = replace(workload, options=options, training=workload.training.model_copy(update=changes))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = exact.build(device).double()
        image = torch.rand(IMAGES, *model.operator.image_shape, dtype=torch.float64, device=device)
    measurement = model.operator(image)
    other = workload.build(device)
    other.load_state_dict(model.state_dict())
    kind = torch.float64 if workload.training.autocast == "none" else torch.float32
    other.to(kind)
    exact.gradients(model, image, measurement)
    workload.gradients(other, image.to(kind), measurement.to(kind))
    expected = _flat(model)
    return float((_flat(other) - expected).norm() / expected.norm())


def _flat(model: Architecture) -> Tensor:
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
