"""bench explain: what the peak of one cell, or of one step, is made of, by category, module and source line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.common import ConfigFile, busy, check_file, import_torch, say

if TYPE_CHECKING:  # torch, pandas and matplotlib take over a second to import: only an explanation pays for them
    from bench.cells.cell import Cell
    from bench.engines import EngineName
    from bench.memory import Card
    from bench.memory.explaining.explain import Explanation

MOST_ROWS = 100_000


def explain(
    step: Annotated[
        str | None, typer.Argument(help="A step of yours: FILE.py:FUNCTION or MODULE:FUNCTION, as for `bench fit`.")
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="The architecture: see `bench list`.")] = None,
    task: Annotated[str | None, typer.Option(help="The task: see `bench list`.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How the architecture is trained, such as recomputed+bf16. [default: plain]")
    ] = None,
    gpu_cap: Annotated[str | None, typer.Option(help="The card's memory, such as 8GB (= 8 GiB) or 8000MB.")] = None,
    gpu: Annotated[str | None, typer.Option(help="A named card: see `bench list`.")] = None,
    batch: Annotated[int | None, typer.Option(help="The batch size. [default: the largest that fits, or 1]")] = None,
    config: ConfigFile = None,
    engine: Annotated[
        Literal["simulated", "virtual"],
        typer.Option(
            help="What the explanation comes from: a recording, or PyTorch's own CUDA code on a virtual card."
        ),
    ] = "simulated",
    top: Annotated[int, typer.Option(help="Rows of the breakdown by module and line; 0 for none.")] = 10,
    steps: Annotated[
        int, typer.Option(min=2, max=64, help="Calls that are looked at: with gradients summed over 8 calls, 8.")
    ] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of the tables.")] = False,
    timeline: Annotated[Path | None, typer.Option(help="Draw memory over the step: .png, .svg or .pdf.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Write a snapshot for PyTorch's memory_viz (a pickle).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """What the peak is made of: parameters, saved activations, workspace, ..., to the byte.

    Without --gpu-cap and --gpu, the first card of the configuration. Where the batch does not fit, the moment at which
    memory runs out is explained instead.
    """
    from bench.errors import UsageError

    _check_what(step, architecture, task, strategy)
    import_torch()
    _check(gpu_cap, gpu, batch, top, timeline)
    check_file("--timeline", timeline, force=force)
    check_file("--snapshot", snapshot, force=force)
    if timeline and snapshot and timeline.absolute() == snapshot.absolute():
        raise UsageError(f"--snapshot: {snapshot} is that of --timeline too: give another name")
    from bench.cells import suite
    from bench.commands.measuring import chosen_cards, virtual_cards, with_environment
    from bench.commands.run import cards_given
    from bench.config import load
    from bench.report.terminal import composition, print_table
    from bench.report.terminal.layout import LEAST
    from bench.strategies import PLAIN

    card_given = cards_given([gpu_cap] if gpu_cap is not None else None, [gpu] if gpu is not None else None)
    cell_given = {} if step else {"architectures": [architecture], "tasks": [task], "strategies": [strategy or PLAIN]}
    given: dict[str, dict[str, object]] = {"suite": {**cell_given, **card_given}}
    settings = load(config, given if step else with_environment(config, given))
    card = chosen_cards(settings, [], [])[0]
    if engine == "virtual":
        virtual_cards([card])
    if step:
        what: dict[str, object] = {"step": step}
        with busy(f"recording {step}"):
            explanation, name = _explain_step(step, card, batch, engine, steps), step
    else:
        (cell,) = suite.cells(settings)
        what = {"architecture": cell.architecture, "task": cell.task, "settings": cell.settings}
        explanation, name = _explain_cell(cell, card, batch, engine), f"{cell.architecture} on {cell.task}"
    title = f"{name}, batch {explanation.batch}, {card.name}"
    if timeline:
        _write(timeline, lambda: _draw(explanation, title, timeline))
    if snapshot:
        from bench.memory.explaining.snapshot import write

        _write(snapshot, lambda: write(explanation, snapshot))
    if json:
        print(_as_json(what, settings.memory.workspace, explanation, engine))
    else:
        print_table(composition.categories(explanation), composition.caption(explanation, title))
        if top:
            print()
            table, caption = composition.breakdown(explanation, top), composition.breakdown_caption(explanation, top)
            print_table(table, caption, LEAST["breakdown"])
    sentence = composition.why_it_does_not_fit(explanation)
    if sentence:
        say(sentence)


def _check_what(step: str | None, architecture: str | None, task: str | None, strategy: str | None) -> None:
    from bench.errors import UsageError

    if strategy is not None and (step is not None or "," in strategy):
        raise UsageError(
            f"--strategy: got {strategy!r}: an explanation is of one strategy, of --architecture on --task"
        )
    if step is not None and (architecture is not None or task is not None):
        raise UsageError(f"got a step, {step}, and --architecture or --task: an explanation is of one of them")
    if step is None and (architecture is None or task is None):
        raise UsageError("expected a step, such as train.py:make_step, or --architecture and --task")


def _check(gpu_cap: str | None, gpu: str | None, batch: int | None, top: int, timeline: Path | None) -> None:
    from bench.errors import UsageError
    from bench.memory.search import LARGEST_BATCH
    from bench.report.plots.timeline import SUFFIXES

    if gpu_cap is not None and gpu is not None:
        raise UsageError("got both --gpu-cap and --gpu: an explanation is of one card, so give one of them")
    if "," in (gpu_cap or gpu or ""):
        raise UsageError(f"{'--gpu' if gpu else '--gpu-cap'}: got {gpu_cap or gpu!r}: an explanation is of one card")
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UsageError(f"--batch: got {batch}, expected at least 1 and at most {LARGEST_BATCH:,}")
    if not 0 <= top <= MOST_ROWS:
        raise UsageError(f"--top: got {top}, expected at least 0 and at most {MOST_ROWS:,}")
    if timeline and timeline.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--timeline {timeline} has no known suffix: give one of {', '.join(SUFFIXES)}")


def _explain_cell(cell: Cell, card: Card, batch: int | None, engine: EngineName) -> Explanation:
    """Take a cell's peak apart.

    Raises:
        UsageError: it cannot be recorded, or not run on the virtual card, or is another step there.
    """
    from bench.errors import UsageError
    from bench.memory import NotRecordableError
    from bench.memory.measuring.cuda import ProbeFailedError
    from bench.virtual.comparison import TooDifferentError

    name = f"{cell.architecture} on {cell.task}"
    try:
        with busy(f"recording {name}"):
            return _explain(cell, card, batch, engine)
    except ProbeFailedError as error:
        raise UsageError(str(error)) from error
    except TooDifferentError as error:
        raise UsageError(f"{name}: {error}: its recording cannot name what the card allocates") from error
    except NotRecordableError as error:
        raise UsageError(f"{name} cannot be recorded: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # theirs
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{name} cannot be recorded: {reason}") from error


def _explain(cell: Cell, card: Card, images: int | None, name: EngineName) -> Explanation:
    """Record the cell, take the largest batch that fits if none is given, and take its peak apart."""
    from bench.memory import largest_batch
    from bench.memory.checked import check_at
    from bench.memory.explaining.explain import explain
    from bench.stages.memory import recorded, recording_of, running_engine, simulated_engine
    from bench.stages.profile import in_images, located
    from bench.virtual.engine import VirtualEngine
    from bench.virtual.explained import explain_on_card
    from bench.virtual.figures import kernels_of

    trace, workload = recorded(cell), cell.workload.for_recording()
    batch = images and -(-images // workload.images(1))  # a batch of micro-batches has several images
    engine = simulated_engine(cell, trace, card, kernels_of(card) if name == "virtual" else None)
    predicted = batch or largest_batch(engine).batch
    running = running_engine(name, cell, card, predicted) if name == "virtual" else None
    batch = batch or (largest_batch(running, trusted=predicted).batch if running else predicted) or 1
    with recording_of(workload):
        check_at(workload.make_step, trace, [batch])
    sources = located(cell, trace, batch)
    if isinstance(running, VirtualEngine):
        return in_images(cell, explain_on_card(running, engine, batch, sources))
    return in_images(cell, explain(engine, batch, sources))


def _explain_step(step: str, card: Card, batch: int | None, name: EngineName, steps: int) -> Explanation:
    """The same of a step of the user's.

    Raises:
        UsageError: it cannot be used or recorded, or does not run at this batch.
    """
    from bench.commands.measuring import steps_errors_told
    from bench.errors import UsageError
    from bench.fitting import OnDevice, recorded_step
    from bench.fitting.named_step import NamedStep
    from bench.virtual import VirtualEngine
    from bench.virtual.comparison import TooDifferentError

    with steps_errors_told(step):
        recorded = recorded_step(step, steps)
        for each in recorded.process.assumed:
            say(each.what)
        if name == "virtual":
            on_card = OnDevice(VirtualEngine, NamedStep(step), steps, process=recorded.process, recorded=recorded)
            batch = batch or on_card.largest(card).batch or 1
            try:
                explanation = on_card.explained(card, batch)
            except TooDifferentError as error:
                raise UsageError(f"{step}: {error}: its recording cannot name what the card allocates") from error
        else:
            batch = batch or recorded.largest(card).batch or 1
            explanation = recorded.made_of(card, batch)
        if explanation is None:
            raise UsageError(f"{step} does not run at batch {batch}")
        return explanation


def _as_json(what: dict[str, object], workspace: str, explanation: Explanation, engine: EngineName) -> str:
    from json import dumps

    import torch

    how = {"engine": engine, "workspace": workspace, "torch": torch.__version__}
    return dumps({"format": 1} | what | how | explanation.as_dict(), indent=2)


def _draw(explanation: Explanation, title: str, path: Path) -> None:
    """The step of the moment explained, as a picture."""
    from bench.report.plots.timeline import EVENTS, draw
    from bench.stages.profile import timeline
    from bench.units import format_bytes

    step = timeline(explanation, EVENTS)
    allocated = format_bytes(explanation.history[explanation.moment].allocated_bytes)
    request_bytes = explanation.failed_request_bytes
    note = f"peak: {allocated} allocated"
    if request_bytes is not None:
        note = f"out of memory: {allocated} allocated,\n{format_bytes(request_bytes)} asked for"
    when = f"step {step.step}" if step.step else "before the first step"
    sizes = {category.value: size for category, size in explanation.categories.items()}
    draw(step, f"{title}: {when}", note, sizes, explanation.card.usable_bytes, path)


def _write(path: Path, write: Callable[[], None]) -> None:
    """Write a file, or say in one sentence why that cannot be done."""
    from bench.errors import UsageError

    try:
        write()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    say(f"wrote {path}")
