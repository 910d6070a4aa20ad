"""A step that marks where it begins, so that steps can be told apart in what an allocator did."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.memory.recording.recorder import MakeStep

MARKER_BYTES = 503
"""Of the allocation that stands at the beginning of each step, and is gone at once."""


def marked(make_step: MakeStep) -> MakeStep:
    """The same step, with a marker at its beginning."""

    def make_marked(batch: int, device: torch.device) -> Callable[[], object]:
        step = make_step(batch, device)

        def with_marker() -> object:
            torch.empty(MARKER_BYTES, dtype=torch.uint8, device=device)
            return step()

        return with_marker if callable(step) else step

    return make_marked
