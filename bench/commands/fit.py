"""bench fit: does a training step of the user's fit, at what batch, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import Names, busy, check_file, import_torch
from bench.commands.step_options import (
    Amp,
    Calls,
    Loss,
    Model,
    Optimizer,
    Sample,
    StepName,
    Strict,
    asked,
    check_batch,
    check_engine,
    refuse_assumed_values,
)


def fit(
    step: StepName = None,
    model: Model = None,
    sample: Sample = None,
    loss: Loss = None,
    optimizer: Optimizer = None,
    amp: Amp = None,
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
    steps: Calls = 2,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    page: Annotated[Path | None, typer.Option(help="Write the answer as a page too: an .html file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there.")] = False,
    strict: Strict = False,
) -> None:
    """Does your training step fit? The largest batch per card, its peak, what it is made of, what was assumed.

    The function takes a batch and returns one training step: make_step(batch) or make_step(batch, device); or it is
    one: step(batch). Without --gpu and --gpu-cap, the cards of bench.toml.
    """
    import_torch()
    import torch

    from bench.commands.measuring import chosen_cards, steps_errors_told
    from bench.commands.run import cards_given
    from bench.config import load
    from bench.errors import UsageError
    from bench.files import write_atomically
    from bench.fitting import engine_of
    from bench.fitting import fit as answered
    from bench.report.terminal import fit as report
    from bench.report.terminal import print_json, print_parts
    from bench.report.terminal.layout import LEAST

    check_batch(batch)
    check_engine(engine)
    check_file("--page", page, force=force)
    if page and page.suffix not in (".html", ".htm"):
        raise UsageError(f"--page: got {page}, expected a name that ends with .html")
    what = asked(step, model, sample, loss, optimizer, amp)
    settings = load(None, {"suite": cards_given(gpu_cap, gpu)})
    cards = chosen_cards(settings, [], [])
    with busy(f"recording {what}"), steps_errors_told(what):
        answer = answered(str(what), engine_of(what, engine, cards, steps), cards, batch)
    if strict:
        refuse_assumed_values(what, answer.assumed)
    if page:
        from bench.report.formats import answer as answer_page

        write_atomically(page, answer_page.page(answer, torch.__version__))
    if json:
        print_json(_dumped(report.as_dict(answer, torch.__version__)))
    else:
        print_parts(report.parts(answer), LEAST["breakdown"])


def _dumped(value: object) -> str:
    from json import dumps

    return dumps(value, indent=2)
