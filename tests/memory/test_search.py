"""The search for the largest batch, against brute force over every batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.memory.search import LARGEST_BATCH, NEIGHBOURS, Probe, largest_batch


class Table:
    """An engine that knows which batches fit."""

    name = "table"

    def __init__(self, fitting, guess):
        self.fitting = fitting
        self.first_guess = guess
        self.asked = []

    def guess(self):
        return self.first_guess

    def probe(self, batch):
        assert batch >= 1
        assert batch not in self.asked, "a probe can cost a minute: never ask twice"
        self.asked.append(batch)
        return Probe(batch, batch in self.fitting, 0, 0, 0)


@given(edge=st.integers(0, 3000), guess=st.integers(0, 5000))
def test_finds_the_edge_from_any_guess(edge, guess):
    engine = Table(range(1, edge + 1), guess)
    boundary = largest_batch(engine)
    assert boundary.batch == edge
    assert boundary.monotone
    assert {edge + 1, edge + NEIGHBOURS} <= set(engine.asked)
    assert edge == 0 or boundary.at_edge.batch == edge
    assert len(engine.asked) <= 40


@given(edge=st.integers(1, 50), gap=st.integers(1, NEIGHBOURS - 1), length=st.integers(1, 4), guess=st.integers(0, 60))
def test_an_edge_that_is_not_monotone_moves_on(edge, gap, length, guess):
    fitting = {*range(1, edge + 1), *range(edge + gap + 1, edge + gap + length + 1)}
    boundary = largest_batch(Table(fitting, guess))
    assert boundary.batch == max(fitting)
    for beyond in range(1, NEIGHBOURS + 1):
        assert boundary.batch + beyond not in fitting


@pytest.mark.parametrize(("guess", "probes"), [(2**40, 1), (LARGEST_BATCH, 1), (LARGEST_BATCH - 1, 2), (1, 21)])
def test_a_search_without_an_edge_stops(guess, probes):
    engine = Table(range(1, 2**50), guess)
    boundary = largest_batch(engine)
    assert (boundary.batch, boundary.monotone, len(engine.asked)) == (LARGEST_BATCH, True, probes)


def test_a_good_guess_costs_few_probes():
    engine = Table(range(1, 101), 100)
    largest_batch(engine)
    assert sorted(engine.asked) == [100, 101, 102]


def test_a_trusted_answer_that_holds_costs_two_probes():
    engine = Table(range(1, 101), 100)
    assert largest_batch(engine, trusted=100).batch == 100
    assert sorted(engine.asked) == [100, 101]


@pytest.mark.parametrize(("edge", "trusted"), [(100, 98), (100, 103), (0, 3)])
def test_a_trusted_answer_that_does_not_hold_is_searched_around(edge, trusted):
    engine = Table(range(1, edge + 1), trusted)
    assert largest_batch(engine, trusted=trusted).batch == edge
    assert {edge + 1, edge + NEIGHBOURS} <= set(engine.asked)
