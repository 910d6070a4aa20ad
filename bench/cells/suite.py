"""The suite: which cells there are, which are done, and the record that each becomes."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bench import models, operators, plugins, strategies
from bench.accuracy.checkpoint import forget
from bench.cells.cell import Cell
from bench.cells.provenance import provenance
from bench.config import Config
from bench.errors import BenchError, StorageError, UsageError
from bench.execution import devices
from bench.execution.progress import Progress, tell, told_to
from bench.execution.workers import Died, message, side_by_side
from bench.memory import Card, NotRecordableError
from bench.memory.measuring.cuda import ProbeFailedError
from bench.operators.base import LinearOperator
from bench.records import FULL_SIZE, Record, Stage
from bench.records.store import RecordStore
from bench.units import format_bytes

if TYPE_CHECKING:
    from bench.models.architectures.base import Architecture


def cells(
    config: Config,
    architectures: Iterable[str] = (),
    tasks: Iterable[str] = (),
    *,
    stage: Stage = "memory",
    cards: Iterable[Card] = (),
    say: Callable[[str], object] = lambda sentence: None,
) -> list[Cell]:
    """The cells of a suite, task by task; `architectures` and `tasks` replace the configuration's own.

    Each architecture is trained with each of the configuration's strategies that it can take; `say` hears why not.
    In the stage accuracy classical methods come after the architectures, so that training begins at once, and each
    architecture is there once for each of the losses that it is trained with.

    Raises:
        UsageError: an unknown architecture, task or operator (the message lists the known ones), a strategy that none
            of the architectures can take, or a task that one of them cannot.
    """
    chosen_architectures = [
        _known("architecture", name, models.names()) for name in architectures or config.suite.architectures
    ]
    chosen_tasks = [_known("task", name, list(config.task)) for name in tasks or config.suite.tasks]
    classical: Sequence[str] = ()
    if stage == "accuracy":
        stood_for = [config.task[name].stands_for or (name,) for name in chosen_tasks]
        chosen_tasks = [_known("task", name, list(config.task)) for names in stood_for for name in names]
        classical = config.accuracy.classical
    for name in chosen_tasks:
        _known(f"operator of task {name}:", config.task[name].operator, operators.names())
    pairs, refusals = strategies.chosen(
        config.suite.strategies, [models.get(name) for name in dict.fromkeys(chosen_architectures)], config
    )
    for sentence in refusals:
        say(f"left out: {sentence}")
    trained = [(strategies.named(name, made.name), name, made.laid_on(config)) for name, made in pairs]
    for _, network, laid in trained:
        for name in chosen_tasks:
            _check_takes(models.get(network), laid, name)
    rows = [*((name, laid) for name, _, laid in trained), *((name, config) for name in dict.fromkeys(classical))]
    return [
        Cell(stage, name, task, of_loss, tuple(cards))
        for task in dict.fromkeys(chosen_tasks)
        for name, laid in rows
        if can_take(config.task[task].operator, name)
        for of_loss in _by_loss(laid, stage, name)
    ]


def _check_takes(architecture: type[Architecture], config: Config, task: str) -> None:
    """See that an architecture reconstructs a task's images from its operator.

    Raises:
        UsageError: it does not.
    """
    operator, options = operators.get(config.task[task].operator), config.task[task].options
    refusal = architecture.refusal_for(config.model, operator, partial(operator.image_shape_of, **options))
    if refusal is not None:
        raise UsageError(f"{architecture.name} on {task}: {refusal}")


def _by_loss(config: Config, stage: Stage, name: str) -> list[Config]:
    """The configuration with each loss that the architecture is trained with; timing and memory have one."""
    architecture, _ = strategies.split(name)
    has_iterates = architecture in models.names() and models.get(architecture).has_iterates
    losses = config.accuracy.losses if stage == "accuracy" and has_iterates else ()
    if not losses:
        return [config]
    return [
        config.model_copy(update={"training": config.training.model_copy(update={"loss": loss})}) for loss in losses
    ]


def has_filtered_backprojection(operator: str) -> bool:
    """Whether the operator of this name has a filtered backprojection."""
    return hasattr(operators.get(operator), "filtered_backprojection")


def can_take(operator: str, method: str) -> bool:
    """Whether a method means anything for the operator of this name; every architecture does."""
    if method == "filtered backprojection":
        return has_filtered_backprojection(operator)
    return method != "total variation" or issubclass(operators.get(operator), LinearOperator)


def _known(what: str, name: str, names: list[str]) -> str:
    for known in names:
        if known.lower() == name.lower():
            return known
    raise UsageError(f"unknown {what} {name!r}: known are {', '.join(names)}")


def run(
    cells: Sequence[Cell],
    store: RecordStore,
    *,
    fresh: bool = False,
    jobs: int = 1,
    gpus: Sequence[str] = (),
    listener: Callable[[int, Progress], None] = lambda place, progress: None,
) -> Iterator[tuple[int, Record, bool]]:
    """Each cell's place in `cells`, its record, and whether it was made now; in the order in which they are done.

    A stored record that answers for all of the cell's cards is taken as it is; one that lacks some, or tells of a
    failure, is made again. Each record is on disk before its process takes up the next cell. A process that dies costs
    its cell, whose record then says so. With `gpus`, cells side by side have one each. Meanwhile `listener` hears how
    far each place is.

    Raises:
        StorageError: a record or a checkpoint cannot be used or written.
    """
    todo: dict[int, Record | None] = {}
    for place, cell in enumerate(cells):
        if fresh:
            forget(cell, store.folder.parent)
        stored = store.load(cell.task, cell.architecture, cell.stage, cell.key)
        if stored and stored.status == "ok" and _answers(stored, cell) and not fresh:
            yield place, stored, False
        else:
            todo[place] = None if fresh else stored
    if len(todo) < 2 or jobs < 2:
        for place, earlier in todo.items():
            with told_to(partial(listener, place)):
                record = _measure_and_store(cells[place], earlier, store)
            yield place, record, True
        return
    if not gpus:
        _prepare({cells[place].stage for place in todo})
    calls = {place: (cells[place], earlier, store) for place, earlier in todo.items()}
    results = side_by_side(_measure_in_worker, calls, min(jobs, len(todo)), gpus=gpus, listener=listener)
    for place, result in results:
        if isinstance(result, Died):
            yield place, store.save(_record(cells[place], {}, str(result))), True
        else:
            yield place, result, True


def gpus(cells: Iterable[Cell]) -> list[str]:
    """The GPUs to share out among the cells, as CUDA_VISIBLE_DEVICES names them; none if they run on the CPU.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    return devices.visible_gpus() if any(_is_on_gpu(cell) for cell in cells) else []


def _is_on_gpu(cell: Cell) -> bool:
    if cell.stage in FULL_SIZE:
        return cell.stage == "memory" and cell.memory.engine == "cuda"
    return devices.chosen((cell.timing if cell.stage == "timing" else cell.accuracy).device).type == "cuda"


def _prepare(stages: Iterable[Stage]) -> None:
    """Import what these stages need before processes are forked, which have it then."""
    if not set(FULL_SIZE).isdisjoint(stages):
        from bench.stages import memory

        memory.prepare()


def _measure_in_worker(cell: Cell, earlier: Record | None, store: RecordStore) -> Record:
    with told_to(message):
        return _measure_and_store(cell, earlier, store)


def _answers(stored: Record, cell: Cell) -> bool:
    """Whether a record has everything that is asked of its cell."""
    return cell.stage != "memory" or all(stored.card(card.name) for card in cell.cards)


def _measure_and_store(cell: Cell, earlier: Record | None, store: RecordStore) -> Record:
    tell(0, None, "")  # it has begun
    for plugin in cell.config.plugins.modules:  # which a process that was not forked has not
        plugins.load(plugin)
    return store.save(measure(cell, earlier, store.folder.parent))


def measure(cell: Cell, earlier: Record | None, folder: Path) -> Record:
    """Measure one stage of one cell. Whatever fails inside becomes its record, so that the other cells go on.

    Args:
        cell: what to measure.
        earlier: a record of the same cell, whose cards are not measured again.
        folder: where a stage may keep more than its record: checkpoints, reconstructions.

    Raises:
        StorageError: one of these cannot be used or written.
    """
    start = time.perf_counter()
    results: dict[str, object] = {}
    reason = None
    try:
        results = importlib.import_module(f"bench.stages.{cell.stage}").measure(cell, earlier, folder)
    except StorageError:
        raise
    except (BenchError, NotRecordableError, ProbeFailedError) as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a cell may run anybody's architecture: this is where its failure ends
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
    seconds = time.perf_counter() - start
    try:
        return _record(cell, results, reason, seconds)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        return _record(cell, {}, f"no record can hold the result: {what}: {first['msg']}", seconds)


def _record(cell: Cell, results: dict[str, object], reason: str | None, seconds: float = 0.0) -> Record:
    return Record.model_validate(
        {
            "key": cell.key,
            "stage": cell.stage,
            "preset": cell.preset,
            "architecture": cell.architecture,
            "task": cell.task,
            "paper_task": cell.workload.task.paper,
            "settings": cell.settings,
            "status": "ok" if reason is None else "failed",
            "reason": reason and reason.encode(errors="replace").decode(),
            "seconds": round(seconds, 3),
            "provenance": provenance(cell.source),
        }
        | results
    )


def check_cards_hold_parameters(records: Iterable[Record], cards: Iterable[Card]) -> None:
    """Refuse a card that could not even hold the parameters of a cell.

    Raises:
        UsageError: usable memory is smaller than the parameters.
    """
    for record_ in records:
        for card in cards:
            if record_.memory and card.usable_bytes < record_.memory.parameter_bytes:
                raise UsageError(
                    f"a cap of {card.name} leaves {format_bytes(card.usable_bytes)} beside the CUDA context, less than "
                    f"the parameters of {record_.architecture} ({format_bytes(record_.memory.parameter_bytes)}): "
                    "give a larger one"
                )
