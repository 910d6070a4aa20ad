"""A step of the user's, as the options of `bench fit` and `bench plan` name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch takes over a second to import: only an answer pays for it
    from bench.fitting.answer import Assumption
    from bench.fitting.model_step import ModelStep

StepName = Annotated[
    str | None, typer.Argument(help="FILE.py:FUNCTION or MODULE:FUNCTION, such as train.py:make_step.")
]
Model = Annotated[
    str | None,
    typer.Option(help="Instead of a step, a network: timm:NAME, torchvision:NAME, FILE.py:CLASS or MODULE:CLASS."),
]
Sample = Annotated[str | None, typer.Option("--input", help="The shape of its samples, such as 3x224x224.")]
Loss = Annotated[str | None, typer.Option(help="Its loss. [default: cross_entropy]")]
Optimizer = Annotated[str | None, typer.Option(help="Its optimiser. [default: adamw]")]
Amp = Annotated[str | None, typer.Option(help="Mixed precision: bf16 or fp16. [default: none]")]
Calls = Annotated[
    int, typer.Option(min=2, max=64, help="Calls that are looked at: with gradients summed over 8 calls, 8.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse what needs a value to be assumed.")]


def asked(
    step: str | None, model: str | None, sample: str | None, loss: str | None, optimizer: str | None, amp: str | None
) -> str | ModelStep:
    """What is asked about: a step by its name, or one around a network.

    Raises:
        UsageError: neither or both, or options of a network without one.
    """
    from bench.errors import UsageError
    from bench.fitting.model_step import ModelStep, parse_shape

    options = {"loss": loss, "optimizer": optimizer, "amp": amp}
    given = [f"--{name}" for name, value in {"model": model, "input": sample, **options}.items() if value is not None]
    if step is not None:
        if given:
            raise UsageError(f"got a step, {step}, and {', '.join(given)}, which are for a network: give one of them")
        return step
    if model is None or sample is None:
        raise UsageError("expected a step, such as train.py:make_step, or --model and --input")
    chosen = {name: value for name, value in options.items() if value is not None}
    return ModelStep(model, parse_shape(sample), **chosen)


def check_batch(batch: int | None) -> None:
    """Refuse a batch that no search tries.

    Raises:
        UsageError: it is one.
    """
    from bench.errors import UsageError
    from bench.memory.search import LARGEST_BATCH

    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UsageError(f"--batch: got {batch}, expected at least 1 and at most {LARGEST_BATCH:,}")


def check_engine(engine: str) -> None:
    """Refuse an engine that is none.

    Raises:
        UsageError: it is one.
    """
    from bench.choices import refusal
    from bench.errors import UsageError
    from bench.fitting import ENGINES

    if engine not in ENGINES:
        raise UsageError(f"--engine: {refusal('engine', engine, ENGINES)}")


def refuse_assumed_values(step: object, assumed: Sequence[Assumption]) -> None:
    """What --strict does.

    Raises:
        UsageError: the step asks for values that were assumed.
    """
    from bench.errors import UsageError
    from bench.report.terminal.fit import assumptions

    values = tuple(each for each in assumed if each.is_value)
    if values:
        lines = "; ".join(assumptions(values))
        raise UsageError(f"--strict: {step} asks for values that nobody knows without a GPU: {lines}")
