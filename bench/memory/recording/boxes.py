"""Boxes that torchvision's nms keeps: how many they are depends on values, as of what else is selected (selecting.py).

On a card boxes are sorted by score and held against each other, 64 at a time; one bit a pair says which overlap, and a
mask which boxes stay (torchvision/csrc/ops/cuda/nms_kernel.cu,
https://github.com/pytorch/vision/blob/main/torchvision/csrc/ops/cuda/nms_kernel.cu).
"""

from __future__ import annotations

import torch
from torch import Tensor

NAME = "torchvision::nms"
_AT_ONCE = 64


def kept(boxes: Tensor, scores: Tensor, most_overlap: float) -> Tensor:
    """The places of the boxes that are kept, the best first, by the operations that a card carries out."""
    count = boxes.size(0)
    order = scores.sort(stable=True, dim=0, descending=True)[1]
    _sorted = boxes.index_select(0, order).contiguous()
    _overlaps = torch.empty(count * -(-count // _AT_ONCE), dtype=torch.int64, device=boxes.device)
    stays = torch.empty(count, dtype=torch.bool, device=boxes.device)
    return order.masked_select(stays)
