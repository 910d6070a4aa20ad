"""bench plan: by which strategies a batch fits on a card, and what each costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.common import ConfigFile, Names, busy, check_picture, import_torch, listed
from bench.garbage import collector_paused


@collector_paused()
def plan(
    architecture: Annotated[str, typer.Option(help="The network.")],
    task: Annotated[str, typer.Option(help="What it reconstructs.")],
    batch: Annotated[int, typer.Option(min=1, help="Images of a training step.")],
    gpu_cap: Annotated[str | None, typer.Option(help="Memory of the card, such as 8GB (= 8 GiB).")] = None,
    gpu: Annotated[str | None, typer.Option(help="Or a named card: see `bench list`.")] = None,
    strategy: Annotated[
        Names, typer.Option(help="Beside the exact ones, try these too: bf16,host,micro-batches,jacobian-free.")
    ] = None,
    config: ConfigFile = None,
    picture: Annotated[Path | None, typer.Option(help="Draw all combinations, as a .png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a picture that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """The strategies by which a batch fits on a card: the cheapest first, as a front of work against memory.

    Every combination of exact strategies that the architecture can take is simulated. Work is that of a training step's
    convolutions, relative to plain. Where nothing fits, the nearest is named, and what it misses.
    """
    import_torch()
    from bench import models, planning, strategies
    from bench.choices import refusal, spelled
    from bench.commands.measuring import chosen_cards
    from bench.config import load
    from bench.errors import UsageError
    from bench.report.terminal import plan as report
    from bench.report.terminal import print_json, print_parts

    check_picture("--picture", picture, force=force)
    settings = load(config)
    network, name = spelled(architecture, models.names()), spelled(task, settings.task)
    if network not in models.names():
        raise UsageError(f"--architecture: {refusal('architecture', architecture, models.names())}")
    if name not in settings.task:
        raise UsageError(f"--task: {refusal('task', task, settings.task)}")
    more = listed("--strategy", strategy) or []
    try:
        for each in more:
            strategies.combination(each)
    except ValueError as error:
        raise UsageError(f"--strategy: {error}") from error
    cards = chosen_cards(settings, [gpu_cap] if gpu_cap else [], [gpu] if gpu else [])
    with busy(f"planning {network} on {name}"):
        made = planning.plan(settings, network, name, cards[0], batch, (*planning.EXACT, *((each,) for each in more)))
    if picture:
        report.draw(made, picture)
    if json:
        print_json(report.as_json(made))
    else:
        print_parts([report.table(made), report.sentence(made)])
