"""Optimisers without data choose their kernels as on a GPU.

PyTorch's optimisers and gradient clipping ask for the type of the device: on a GPU they work on lists of tensors
(foreach) by default, which takes temporaries as large as all parameters, or on request in one kernel (fused).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from unittest.mock import patch

_ASKED_FROM = ("torch.optim.optimizer", "torch.utils._foreach_utils")
_QUESTIONS = ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices")


@contextlib.contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    """Within this context the meta device counts as one that has these kernels."""
    with contextlib.ExitStack() as patches:
        for module in map(importlib.import_module, _ASKED_FROM):
            for question in _QUESTIONS:
                patches.enter_context(patch.object(module, question, _with_meta(getattr(module, question))))
        yield


def _with_meta(devices: Callable[[], list[str]]) -> Callable[[], list[str]]:
    return lambda: [*devices(), "meta"]
