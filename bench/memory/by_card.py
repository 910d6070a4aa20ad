"""A step for a GPU, recorded for every card: once for all, or, where it has attention, once for each kind of card."""

from __future__ import annotations

from bench.memory.checked import CheckedStep
from bench.memory.gpus import Card
from bench.memory.recording.attention import Kernels
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import STEPS, MakeStep


class StepByCard:
    """A step, as each kind of card runs it; what is asked of it has to be asked within `on_cuda(card)`.

    Raises:
        NotRecordableError: as from `CheckedStep`.
        ValueError: less than two steps.
    """

    def __init__(self, make_step: MakeStep, steps: int = STEPS) -> None:
        self._make_step = make_step
        self._steps = steps
        self._recorded: dict[Kernels, CheckedStep] = {}
        self.has_attention: bool
        self.on(None)

    def on(self, card: Card | None) -> CheckedStep:
        """The step with a card's kernels; None: with an ordinary card's."""
        kernels = Kernels.of(card)
        if self._recorded and not self.has_attention:
            return next(iter(self._recorded.values()))
        if kernels not in self._recorded:
            with on_cuda(card) as asked:
                self._recorded[kernels] = CheckedStep(self._make_step, self._steps)
            self.has_attention = bool(asked.choices)
        return self._recorded[kernels]
