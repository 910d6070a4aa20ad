"""A step for a GPU, recorded for every card: once for all, or, where it asks which card there is, once for each.

Where it has attention, once for each kind of card.
"""

from __future__ import annotations

from bench.memory.checked import CheckedStep
from bench.memory.gpus import Card
from bench.memory.recording.attention import Kernels, with_kernels
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS, MakeStep


class StepByCard:
    """A step, as each kind of card runs it; what is asked of it has to be asked within `on_cuda(card)`.

    It is recorded with the kernels of `first` at once; None: with an ordinary card's.

    Raises:
        NotRecordableError: as from `CheckedStep`.
        ValueError: less than two steps.
    """

    def __init__(self, make_step: MakeStep, steps: int = STEPS, first: Card | None = None) -> None:
        self._make_step = make_step
        self._steps = steps
        self._recorded: dict[Kernels | Card, CheckedStep] = {}
        self.has_attention = False
        self._is_by_card = False
        self.on(first)

    def on(self, card: Card | None) -> CheckedStep:
        """The step with a card's kernels; None: with an ordinary card's."""
        if self._recorded and not (self.has_attention or self._is_by_card):
            return next(iter(self._recorded.values()))
        kind = self._kind(card)
        if kind not in self._recorded:
            with on_cuda(card) as asked:
                step = CheckedStep(self._make_step, self._steps)
            self.has_attention = self.has_attention or bool(asked.choices)
            self._is_by_card = self._is_by_card or asked.is_about_card
            self._recorded[self._kind(card)] = step
        return self._recorded[self._kind(card)]

    def _kind(self, card: Card | None) -> Kernels | Card:
        return with_kernels(card) if self._is_by_card else Kernels.of(card)
