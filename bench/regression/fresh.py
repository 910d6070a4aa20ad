"""Measured anew: the numbers of cells and the compositions of their memory, side by side on all cores."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench import suite
from bench.cell import Cell
from bench.errors import InterruptedRunError
from bench.memory import Card, NotRecordableError, SimulatedEngine, record
from bench.memory.allocator import AllocatorConfig
from bench.memory.explain import Category, Explanation, explain
from bench.memory.gpus import CARDS, card_of_capacity
from bench.memory.simulated import installed_release
from bench.memory.sources import locate
from bench.pool import pool
from bench.regression.measured import Composition, Measured, conditions, reduced
from bench.units import TiB

ENOUGH = Card("memory enough", 1024 * TiB, 0, None, None, "no real card: compositions are those of undisturbed steps")
PLACES = 3  # lines kept of each group

_OWNED = (Category.PARAMETERS, Category.BUFFERS, Category.GRADIENTS, Category.OPTIMIZER)  # named after a tensor

Name = tuple[str, str, str]  # task, architecture, stage
Result = TypeVar("Result")


def again(cells: Iterable[Cell], before: Iterable[Measured], jobs: int) -> list[Measured]:
    """The cells measured anew, on the cards of their earlier measurements.

    A cell that was measured under other conditions, or never, is not: it has its conditions and no numbers.
    """
    earlier = {measured.name: measured for measured in before}
    todo, after = [], []
    for cell in cells:
        plan = planned(cell)
        same_name = earlier.get(plan.name)
        if same_name and same_name.conditions == plan.conditions:
            todo.append(on_cards_of(cell, same_name))
        else:
            after.append(plan)
    return after + side_by_side(measure, jobs, todo)


def explained(
    cells: Iterable[Cell], before: Iterable[Measured], after: Iterable[Measured], changed: Container[Name], jobs: int
) -> list[Measured]:
    """`after`, where cells have `changed` with the compositions of their memory, at the batches that `before` has."""
    batches = {measured.name: measured.composition.batch for measured in before if measured.composition}
    plans = {plan.name: (plan, cell) for plan, cell in ((planned(cell), cell) for cell in cells)}
    todo: list[tuple[Cell, Measured, int]] = []
    told: list[Measured] = []
    for measured in after:
        plan, cell = plans.get(measured.name, (None, None))
        name = measured.name
        if plan and cell and name in changed and name in batches and plan.conditions == measured.conditions:
            todo.append((cell, measured, batches[name]))
        else:
            told.append(measured)
    return told + side_by_side(composed, jobs, *zip(*todo, strict=True)) if todo else told


def planned(cell: Cell) -> Measured:
    """A cell of the stage memory before it is measured: its conditions, and no numbers yet."""
    now = conditions(cell.stage, cell.settings, cell.preset, torch.__version__)
    return Measured(task=cell.task, architecture=cell.architecture, stage=cell.stage, conditions=now)


def measure(cell: Cell) -> Measured:
    """A cell's numbers, measured now; a failure has its reason."""
    return reduced(suite.measure(cell, None, Path()))


def on_cards_of(cell: Cell, before: Measured) -> Cell:
    """The cell on those cards of an earlier measurement that are still known."""
    return replace(cell, cards=tuple(card for card in map(_card, before.cards) if card))


def _card(name: str) -> Card | None:
    try:
        return CARDS.get(name) or card_of_capacity(name)
    except ValueError:
        return None


def measure_composed(cell: Cell) -> Measured:
    """A cell's numbers with the composition of its memory, at the largest batch that fits everywhere (or 1)."""
    measured = measure(cell)
    if measured.failure:
        return measured
    batches = [q.value for q in measured.quantities if q.name == "largest_batch" and isinstance(q.value, int)]
    return composed(cell, measured, min((batch for batch in batches if batch), default=1))


def composed(cell: Cell, measured: Measured, batch: int) -> Measured:
    """The measurement with the composition of the cell's memory at a batch; without, if its sources cannot be told."""
    make_step, steps = cell.workload.for_recording().make_step, cell.memory.steps
    config = AllocatorConfig.parse(cell.memory.alloc_conf, installed_release())
    try:
        trace = record(make_step, steps)
        sources = locate(make_step, trace, batch, steps)
    except NotRecordableError:
        return measured
    explanation = explain(SimulatedEngine(trace, ENOUGH, config=config), batch, sources)
    return measured.model_copy(update={"composition": _composition(explanation)})


def _composition(explanation: Explanation) -> Composition:
    size_bytes: dict[str, dict[str, int]] = {}
    places: dict[str, dict[str, list[str]]] = {}
    for row in explanation.rows:  # largest first
        owner = row.module.rpartition(".")[0] or row.module if row.category in _OWNED else ""
        what = owner or ", ".join(filter(None, (row.module, row.op)))
        of_category = size_bytes.setdefault(row.category.value, {})
        of_category[what] = of_category.get(what, 0) + row.size_bytes
        lines = places.setdefault(row.category.value, {}).setdefault(what, [])
        if row.place and row.place not in lines and len(lines) < PLACES:
            lines.append(row.place)
    for category in (Category.ROUNDING, Category.FRAGMENTATION):
        size_bytes[category.value] = {"in all": explanation.categories[category]}
    return Composition(
        batch=explanation.batch,
        peak_allocated_bytes=explanation.peak_allocated_bytes,
        peak_reserved_bytes=explanation.peak_reserved_bytes,
        size_bytes={category: dict(sorted(size_bytes[category].items())) for category in sorted(size_bytes)},
        places=places,
    )


def side_by_side(work: Callable[..., Result], jobs: int, *arguments: Sequence[Any]) -> list[Result]:
    """`work` on each of the arguments, as `map` has it, in as many processes.

    Raises:
        InterruptedRunError: the user stopped it.
    """
    try:
        if jobs < 2 or len(arguments[0]) < 2:
            return list(map(work, *arguments))
        with pool(min(jobs, len(arguments[0]))) as workers:
            return list(workers.map(work, *arguments))
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted: nothing was written") from None
