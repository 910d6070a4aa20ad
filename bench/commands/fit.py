"""bench fit: does a training step of the user's fit, at what batch, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import Names, busy, check_file, import_torch

if TYPE_CHECKING:  # torch takes over a second to import: only an answer pays for it
    from bench.fitting import Answer
    from bench.fitting.model_step import ModelStep


def fit(
    step: Annotated[
        str | None, typer.Argument(help="FILE.py:FUNCTION or MODULE:FUNCTION, such as train.py:make_step.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Instead of a step, a network: timm:NAME, torchvision:NAME, FILE.py:CLASS or MODULE:CLASS."),
    ] = None,
    sample: Annotated[str | None, typer.Option("--input", help="The shape of its samples, such as 3x224x224.")] = None,
    loss: Annotated[str | None, typer.Option(help="Its loss. [default: cross_entropy]")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Its optimiser. [default: adamw]")] = None,
    amp: Annotated[str | None, typer.Option(help="Mixed precision: bf16 or fp16. [default: none]")] = None,
    gpu: Annotated[Names, typer.Option(help="Named cards, with commas between them: see `bench list`.")] = None,
    gpu_cap: Annotated[
        Names, typer.Option(help="Memory of cards, such as 8GB (= 8 GiB) or 8000MB; 8GB,24GB for several.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Does this batch fit, and by how much?")] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="What answers: virtual, simulated (neither needs a GPU) or cuda; auto: virtual where there can "
            "be a virtual card (`bench doctor`), else simulated."
        ),
    ] = "auto",
    steps: Annotated[
        int, typer.Option(min=2, max=64, help="Calls that are looked at: with gradients summed over 8 calls, 8.")
    ] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    page: Annotated[Path | None, typer.Option(help="Write the answer as a page too: an .html file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what needs a value to be assumed.")] = False,
) -> None:
    """Does your training step fit? The largest batch per card, its peak, what it is made of, what was assumed.

    The function takes a batch and returns one training step: make_step(batch) or make_step(batch, device); or it is
    one: step(batch). Without --gpu and --gpu-cap, the cards of bench.toml.
    """
    import_torch()
    import torch

    from bench.choices import refusal
    from bench.commands.measuring import chosen_cards, steps_errors_told
    from bench.commands.run import cards_given
    from bench.config import load
    from bench.errors import UsageError
    from bench.files import write_atomically
    from bench.fitting import ENGINES, engine_of
    from bench.fitting import fit as answered
    from bench.memory.search import LARGEST_BATCH
    from bench.report.terminal import fit as report
    from bench.report.terminal import print_json, print_parts
    from bench.report.terminal.layout import LEAST

    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UsageError(f"--batch: got {batch}, expected at least 1 and at most {LARGEST_BATCH:,}")
    if engine not in ENGINES:
        raise UsageError(f"--engine: {refusal('engine', engine, ENGINES)}")
    check_file("--page", page, force=force)
    if page and page.suffix not in (".html", ".htm"):
        raise UsageError(f"--page: got {page}, expected a name that ends with .html")
    asked = _asked(step, model, sample, loss, optimizer, amp)
    settings = load(None, {"suite": cards_given(gpu_cap, gpu)})
    cards = chosen_cards(settings, [], [])
    with busy(f"recording {asked}"), steps_errors_told(asked):
        answer = answered(str(asked), engine_of(asked, engine, cards, steps), cards, batch)
    if strict:
        _refuse_assumed_values(answer)
    if page:
        from bench.report.formats import answer as answer_page

        write_atomically(page, answer_page.page(answer, torch.__version__))
    if json:
        print_json(_dumped(report.as_dict(answer, torch.__version__)))
    else:
        print_parts(report.parts(answer), LEAST["breakdown"])


def _asked(
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


def _refuse_assumed_values(answer: Answer) -> None:
    from bench.errors import UsageError
    from bench.report.terminal.fit import assumptions

    values = tuple(each for each in answer.assumed if each.is_value)
    if values:
        lines = "; ".join(assumptions(values))
        raise UsageError(f"--strict: {answer.step} asks for values that nobody knows without a GPU: {lines}")


def _dumped(value: object) -> str:
    from json import dumps

    return dumps(value, indent=2)
