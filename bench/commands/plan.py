"""bench plan: by which strategies a batch fits on a card, and what each costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import ConfigFile, Names, busy, check_picture, import_torch, listed
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
from bench.garbage import collector_paused

if TYPE_CHECKING:  # torch takes over a second to import: only a plan pays for it
    from bench.config import Config
    from bench.fitting.model_step import ModelStep
    from bench.memory import Card
    from bench.planning import Plan


@collector_paused()
def plan(
    step: StepName = None,
    batch: Annotated[int | None, typer.Option(help="Samples of a training step.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Instead of a step, a network of the suite.")] = None,
    task: Annotated[str | None, typer.Option(help="What it reconstructs.")] = None,
    model: Model = None,
    sample: Sample = None,
    loss: Loss = None,
    optimizer: Optimizer = None,
    amp: Amp = None,
    gpu_cap: Annotated[str | None, typer.Option(help="Memory of the card, such as 8GB (= 8 GiB).")] = None,
    gpu: Annotated[str | None, typer.Option(help="Or a named card: see `bench list`.")] = None,
    strategy: Annotated[
        Names, typer.Option(help="Beside the exact ones, try these too: bf16,host,micro-batches,jacobian-free.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What answers about a step: simulated, virtual, cuda or auto, as of `bench fit`.")
    ] = "simulated",
    steps: Calls = 2,
    config: ConfigFile = None,
    picture: Annotated[Path | None, typer.Option(help="Draw all combinations, as a .png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a picture that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    strict: Strict = False,
) -> None:
    """The strategies by which a batch fits on a card: the cheapest first, as a front of work against memory.

    Of a network of the suite, every combination of exact strategies that it can take is simulated; work is that of a
    training step's convolutions, relative to plain. Of a step of yours, every combination of those that need no change
    of its network; their time is an estimate from the bytes that are moved. Where nothing fits, the nearest is named,
    and what it misses.
    """
    import_torch()
    from bench.commands.measuring import chosen_cards
    from bench.config import load
    from bench.errors import UsageError
    from bench.report.terminal import plan as report
    from bench.report.terminal import print_json, print_parts

    check_picture("--picture", picture, force=force)
    if batch is None:
        raise UsageError("--batch: expected how many samples a training step has")
    check_batch(batch)
    _check_card(gpu_cap, gpu)
    settings = load(config)
    more = listed("--strategy", strategy) or []
    made: Plan
    if architecture is None and task is None:
        check_engine(engine)
        what = asked(step, model, sample, loss, optimizer, amp)
        cards = chosen_cards(settings, [gpu_cap] if gpu_cap else [], [gpu] if gpu else [])
        made = _of_step(what, cards[0], batch, engine, steps, more)
        if strict:
            refuse_assumed_values(what, made.assumed)
    else:
        if step is not None or model is not None:
            raise UsageError(f"got {step or '--model'}, and --architecture or --task: a plan is of one of them")
        if engine != "simulated":
            raise UsageError(f"--engine {engine} is for a step of yours: a network of the suite is simulated")
        cards = chosen_cards(settings, [gpu_cap] if gpu_cap else [], [gpu] if gpu else [])
        made = _of_cell(settings, architecture, task, cards[0], batch, more)
    if picture:
        report.draw(made, picture)
    if json:
        print_json(report.as_json(made))
    else:
        print_parts(report.parts(made))


def _check_card(gpu_cap: str | None, gpu: str | None) -> None:
    from bench.errors import UsageError

    if gpu_cap is not None and gpu is not None:
        raise UsageError("got both --gpu-cap and --gpu: a plan is of one card, so give one of them")
    if "," in (gpu_cap or gpu or ""):
        raise UsageError(f"{'--gpu' if gpu else '--gpu-cap'}: got {gpu_cap or gpu!r}: a plan is of one card")


def _of_step(step: str | ModelStep, card: Card, batch: int, engine: str, steps: int, more: list[str]) -> Plan:
    """The plan for a step of the user's.

    Raises:
        UsageError: as from `bench fit`, or a strategy cannot be tried.
    """
    from bench import planning
    from bench.commands.measuring import steps_errors_told

    with busy(f"planning {step}"), steps_errors_told(step):
        return planning.plan_step(step, card, batch, engine, steps, more)


def _of_cell(
    settings: Config, architecture: str | None, task: str | None, card: Card, batch: int, more: list[str]
) -> Plan:
    """The plan for a network of the suite.

    Raises:
        UsageError: a name is unknown or missing, or the network cannot take the task or a strategy.
    """
    from bench import models, planning, strategies
    from bench.cells import suite
    from bench.choices import refusal, spelled
    from bench.errors import UsageError

    if architecture is None or task is None:
        raise UsageError("expected a step, such as train.py:make_step, or --architecture and --task")
    network, name = spelled(architecture, models.names()), spelled(task, settings.task)
    if network not in models.names():
        raise UsageError(f"--architecture: {refusal('architecture', architecture, models.names())}")
    if name not in settings.task:
        raise UsageError(f"--task: {refusal('task', task, settings.task)}")
    try:
        combinations = [strategies.combination(each) for each in more]
    except ValueError as error:
        raise UsageError(f"--strategy: {error}") from error
    plain = settings.suite.model_copy(update={"strategies": [strategies.PLAIN]})
    suite.cells(settings.model_copy(update={"suite": plain}), [network], [name])  # which refuses what cannot be built
    for each in combinations:
        if reason := each.refused_by(models.get(network), settings):
            raise UsageError(f"--strategy: {reason}")
    with busy(f"planning {network} on {name}"):
        return planning.plan(settings, network, name, card, batch, (*planning.EXACT, *((each,) for each in more)))
