"""Measured anew: the numbers of cells and the compositions of their memory, side by side on all cores."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.cells import suite
from bench.cells.cell import Cell
from bench.errors import InterruptedRunError
from bench.execution.pool import pool
from bench.memory import Card, NotRecordableError
from bench.memory.gpus import CARDS, card_of_capacity
from bench.regression.measured import Measured, conditions, reduced
from bench.stages.memory import REFERENCE_BATCH, recorded
from bench.stages.profile import reference

Name = tuple[str, str, str]  # task, architecture, stage
Result = TypeVar("Result")


def again(cells: Iterable[Cell], before: Iterable[Measured], jobs: int) -> list[Measured]:
    """The cells measured anew, on the cards of their earlier measurements.

    A cell that was measured under other conditions, on no card that is still known, or never, is not: it has its
    conditions and no numbers.
    """
    earlier = {measured.name: measured for measured in before}
    todo, after = [], []
    for cell in cells:
        plan = planned(cell)
        same_name = earlier.get(plan.name)
        is_same = same_name is not None and same_name.conditions == plan.conditions
        on_cards = on_cards_of(cell, same_name) if same_name and is_same else None
        if on_cards and on_cards.cards:
            todo.append(on_cards)
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
        known = measured.composition.batch if measured.composition else None
        is_wanted = name in changed and name in batches and known != batches[name]
        if is_wanted and plan and cell and plan.conditions == measured.conditions:
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
    """A cell's numbers, with the composition of its memory at the reference batch."""
    measured = measure(cell)
    return measured if measured.failure else composed(cell, measured, REFERENCE_BATCH)


def composed(cell: Cell, measured: Measured, batch: int) -> Measured:
    """The measurement with the composition of the cell's memory at a batch; without, if its sources cannot be told."""
    try:
        trace = recorded(cell)
        return measured.model_copy(update={"composition": reference(cell, trace, batch)})
    except NotRecordableError:
        return measured


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
