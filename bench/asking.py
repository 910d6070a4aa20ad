"""The memory of a training step, asked from Python: bench.largest_batch and bench.peak_memory.

    import bench
    bench.largest_batch(make_step, gpu="RTX 4090")      # 37
    bench.peak_memory(make_step, 32, gpu="RTX 4090")    # 19,872,612,352 bytes

Both are numbers, and show in a notebook what they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.fitting import Answer, engine_of, fit
from bench.report.terminal import fit as report
from bench.step_memory import chosen_card

Step = str | Callable[..., Any]
"""A function of one of the forms of bench.memory.forms, or its name: FILE.py:FUNCTION or MODULE:FUNCTION."""


class Told(int):
    """A number, and the answer that it is from.

    Attributes:
        answer: Everything that was found: cards, probes, what the peak is made of, what was assumed.
    """

    answer: Answer

    def __new__(cls, value: int, answer: Answer) -> Told:
        """The number `value` of an answer."""
        number = super().__new__(cls, value)
        number.answer = answer
        return number

    def _repr_html_(self) -> str:
        """The answer as a notebook shows it."""
        return report.html(self.answer)


def largest_batch(step: Step, *, gpu: str | None = None, cap: str | None = None, engine: str = "auto") -> Told:
    """The largest batch that fits a card; 0 if batch 1 does not.

    Args:
        step: A training step.
        gpu: A card's name, such as "RTX 4090"; or
        cap: a capacity, such as "8GB".
        engine: "virtual", "simulated", "cuda", or "auto": virtual where there can be a virtual card and
            the step can be imported by another process, else simulated.

    Raises:
        ValueError: not one card, or a function that is no step.
        UsageError: the engine cannot be had.
        NotRecordableError: the step cannot be recorded.
        ProbeFailedError: a run of the step failed.
    """
    answer = _answer(step, None, gpu, cap, engine)
    return Told(answer.cards[0].boundary.batch, answer)


def peak_memory(
    step: Step, batch: int, *, gpu: str | None = None, cap: str | None = None, engine: str = "auto"
) -> Told:
    """The bytes that a batch reserves at its peak with a card's kernels, where memory has no limit.

    Args and errors as of `largest_batch`.
    """
    if batch < 1:
        raise ValueError(f"a batch is at least 1, got {batch}")
    answer = _answer(step, batch, gpu, cap, engine)
    needed = answer.cards[0].needed
    assert needed
    return Told(needed.peak_reserved_bytes, answer)


def _answer(step: Step, batch: int | None, gpu: str | None, cap: str | None, engine: str) -> Answer:
    card = chosen_card(cap, gpu)
    name = step if isinstance(step, str) else getattr(step, "__name__", type(step).__name__)
    return fit(name, engine_of(step, engine, [card]), [card], batch)
