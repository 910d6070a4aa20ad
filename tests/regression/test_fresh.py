"""Which cells are measured anew, on which cards, and which are explained at which batch; nothing is simulated here."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cells import suite
from bench.config import load
from bench.errors import InterruptedRunError
from bench.memory import NotRecordableError, card_of_capacity
from bench.records import Composition
from bench.regression import fresh
from bench.regression.measured import Quantity
from bench.stages.memory import REFERENCE_BATCH

CELLS = [cell for cell in suite.cells(load(), stage="memory", cards=(card_of_capacity("8GB"),)) if cell.task == "ct"]
PLANS = [fresh.planned(cell) for cell in CELLS]
NAMES = [plan.name for plan in PLANS]


def on(measured, *cards):
    """A measurement with a number on each of some cards."""
    quantities = [Quantity(name="largest_batch", of=card, value=4, at={"card": card}) for card in cards]
    return measured.model_copy(update={"quantities": tuple(quantities)})


def at_batch(measured, batch):
    made = Composition(batch=batch, peak_allocated_bytes=1, peak_reserved_bytes=1, size_bytes={"rounding": {"x": 1}})
    return measured.model_copy(update={"composition": made})


def otherwise(measured):
    return measured.model_copy(update={"conditions": measured.conditions | {"torch": "1.0"}})


@pytest.fixture
def calls(monkeypatch):
    """What `measure` and `composed` were called for; they tell the cards and the batch back."""
    made = []

    def measure(cell):
        made.append((cell.architecture, tuple(card.name for card in cell.cards)))
        return on(fresh.planned(cell), *(card.name for card in cell.cards))

    def composed(cell, measured, batch):
        made.append((cell.architecture, batch))
        return at_batch(measured, batch)

    monkeypatch.setattr(fresh, "measure", measure)
    monkeypatch.setattr(fresh, "composed", composed)
    return made


def test_cells_measured_under_the_same_conditions_are_measured_again(calls):
    """On the cards of then that are still known, once each; other cells, or of no card, have their conditions alone."""
    before = [
        on(PLANS[0], "24GB", "a forgotten card", "8GB", "24GB"),
        otherwise(on(PLANS[1], "8GB")),
        on(PLANS[2], "a forgotten card"),
    ]
    again = fresh.again(CELLS, before, jobs=1)
    assert calls == [(CELLS[0].architecture, ("24GB", "8GB"))]
    assert again == [*PLANS[1:], on(PLANS[0], "24GB", "8GB")]


def test_what_changed_is_explained_at_the_batch_of_before(calls):
    before = [at_batch(PLANS[0], 7), PLANS[1], at_batch(PLANS[2], 5), at_batch(PLANS[3], 9)]
    explained = fresh.explained(CELLS, before, PLANS, NAMES[:3], jobs=1)
    assert calls == [(CELLS[0].architecture, 7), (CELLS[2].architecture, 5)]
    assert explained == [PLANS[1], PLANS[3], at_batch(PLANS[0], 7), at_batch(PLANS[2], 5)]


def test_what_cannot_be_explained_or_is_already_stays_as_it_is(calls):
    """Measured under other conditions than the cells have now, of no cell, or composed at that batch before."""
    before = [at_batch(plan, 7) for plan in PLANS]
    after = [otherwise(PLANS[0]), PLANS[1], at_batch(PLANS[2], 7), at_batch(PLANS[3], 6)]
    explained = fresh.explained([CELLS[0], *CELLS[2:]], before, after, NAMES, jobs=1)
    assert calls == [(CELLS[3].architecture, 7)]
    assert explained == [*after[:3], at_batch(PLANS[3], 7)]
    assert fresh.explained(CELLS, before, after[:3], [], jobs=1) == after[:3]


def test_a_measurement_is_composed_at_the_reference_batch_unless_it_fails(calls, monkeypatch):
    assert fresh.measure_composed(CELLS[0]).composition.batch == REFERENCE_BATCH
    monkeypatch.setattr(fresh, "measure", lambda cell: fresh.planned(cell).model_copy(update={"failure": "broken"}))
    assert fresh.measure_composed(CELLS[0]) == PLANS[0].model_copy(update={"failure": "broken"})


def test_a_measurement_is_what_is_kept_of_a_record_that_none_stores(monkeypatch):
    monkeypatch.setattr(suite, "measure", lambda cell, *where: ("record", cell, *where))
    monkeypatch.setattr(fresh, "reduced", lambda record: ("reduced", *record))
    assert fresh.measure(CELLS[0]) == ("reduced", "record", CELLS[0], None, Path())


def test_a_composition_is_of_the_recorded_step_at_a_batch(monkeypatch):
    made = at_batch(PLANS[0], 7).composition
    monkeypatch.setattr(fresh, "recorded", lambda cell: ("trace", cell))
    monkeypatch.setattr(
        fresh, "reference", lambda *asked: made if asked == (CELLS[0], ("trace", CELLS[0]), 7) else None
    )
    assert fresh.composed(CELLS[0], PLANS[0], 7) == at_batch(PLANS[0], 7)


@pytest.mark.parametrize(("jobs", "arguments", "processes"), [(2, 5, 2), (5, 2, 2), (3, 3, 3)])
def test_there_are_as_many_processes_as_jobs_and_no_more_than_arguments(monkeypatch, jobs, arguments, processes):
    made = []

    @contextlib.contextmanager
    def pool(number):
        made.append(number)
        yield SimpleNamespace(map=map)

    monkeypatch.setattr(fresh, "pool", pool)
    assert fresh.side_by_side(abs, jobs, [-1] * arguments) == [1] * arguments
    assert made == [processes]


def test_a_step_that_cannot_be_recorded_has_no_composition(monkeypatch):
    def recorded(cell):
        raise NotRecordableError("not here")

    monkeypatch.setattr(fresh, "recorded", recorded)
    assert fresh.composed(CELLS[0], PLANS[0], 4) == PLANS[0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_side_by_side_is_as_map(jobs):
    assert fresh.side_by_side(pow, jobs, [2, 3, 5], [5, 2, 1]) == [32, 9, 5]
    assert fresh.side_by_side(abs, jobs, [-1]) == [1]
    assert fresh.side_by_side(abs, jobs, []) == []


def process_of(_):
    return os.getpid()


def test_two_jobs_are_other_processes_and_one_job_or_one_argument_is_not():
    assert os.getpid() not in fresh.side_by_side(process_of, 2, [0, 1])
    assert fresh.side_by_side(process_of, 1, [0, 1]) == [os.getpid()] * 2
    assert fresh.side_by_side(process_of, 2, [0]) == [os.getpid()]


def test_an_interruption_is_said_in_our_words():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError, match="interrupted: nothing was written"):
        fresh.side_by_side(interrupted, 1, [1, 2])
