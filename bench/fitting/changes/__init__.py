"""Strategies for a step of the user's: what needs no change of the network, by name; one small file for each idea."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from bench.fitting.changes import micro_batches
from bench.fitting.changes.autocast import BF16
from bench.fitting.changes.change import Change, Context
from bench.fitting.changes.clearing import SET_TO_NONE
from bench.fitting.changes.host import HOST
from bench.fitting.changes.memory_format import CHANNELS_LAST
from bench.fitting.changes.optimizers import FUSED_OPTIMIZER, ONE_BY_ONE
from bench.memory import MakeStep

__all__ = ["CHANGES", "Change", "Changed", "micro_batches"]

CHANGES = {each.name: each for each in (CHANNELS_LAST, BF16, HOST, FUSED_OPTIMIZER, ONE_BY_ONE, SET_TO_NONE)}


@dataclass(frozen=True)
class Changed:
    """make_step(batch, device) with changes by their names; plain data, so that it travels to another process.

    Where a step runs in `parts`, each of them has `batch` samples.
    """

    make_step: MakeStep
    names: tuple[str, ...] = ()
    parts: int = 1

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        """Build the step."""
        parts = micro_batches.Parts(self.parts)
        changes = [CHANGES[name] for name in self.names]
        with _within(parts, [each.building for each in changes if each.building]):
            step = self.make_step(batch, device)

        def run() -> None:
            with _within(parts, [each.running for each in changes]):
                parts.run(step)

        return run


@contextlib.contextmanager
def _within(parts: micro_batches.Parts, contexts: Iterable[Context]) -> Iterator[None]:
    with contextlib.ExitStack() as entered:
        entered.enter_context(parts.on())
        for context in contexts:
            entered.enter_context(context())
        yield
