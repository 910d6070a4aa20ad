"""The search for the largest batch, against brute force over every batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.memory.search import LARGEST_BATCH, NEIGHBOURS, Probe, largest_batch, last_of, where_room_ends


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


@pytest.mark.parametrize(
    ("guess", "probes"), [(2**40, 1), (LARGEST_BATCH, 1), (LARGEST_BATCH - 1, 2), (600, 21), (1, 21)]
)
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


@pytest.mark.parametrize("edge", range(0, 20))
@pytest.mark.parametrize("guess", [1, 2, 7, 16, 40])
def test_the_last_that_fits_is_found_exactly(edge, guess):
    assert last_of(lambda batch: batch <= edge, guess) == edge


@pytest.mark.parametrize(
    ("room_bytes", "start", "asked", "found"),
    [
        # A line, 7 bytes an image: 2 + 986 // 7 is where it ends, and is found again from there.
        (lambda batch: 1000 - 7 * batch, 2, [2, 1, 142, 2], 142),
        # The same from beyond the end: 301 - 1107 // 7, and back from 142 along the same line.
        (lambda batch: 1000 - 7 * batch, 301, [301, 150, 142, 301], 142),
        (lambda batch: 40 - 7 * batch, 8, [8, 4, 5, 8], 5),
        # Nothing grows: twice as many, eight times, or up to the limit.
        (lambda batch: 5, 2, [2, 1, 4, 2, 8, 4, 16, 8, 32, 16, 64, 32, 128, 64, 256, 128], 512),
        (lambda batch: 5, 2**19, [2**19, 2**18, 2**20, 2**19], LARGEST_BATCH),
        # Not even one: no batch below 1 is asked about.
        (lambda batch: -5 - batch, 4, [4, 2, 1, 4], 1),
    ],
)
def test_where_room_ends_is_looked_for_along_lines(room_bytes, start, asked, found):
    batches = []

    def room(batch):
        batches.append(batch)
        return room_bytes(batch)

    assert (where_room_ends(room, start), batches) == (found, asked)


@pytest.mark.parametrize(
    ("guess", "edge", "asked"),
    [
        (100, 3, [100, 99, 97, 93, 85, 69, 37, 18, 9, 4, 2, 3]),  # down by twice as many each time, then between
        (3, 100, [3, 4, 6, 10, 18, 34, 66, 130, 98, 114, 106, 102, 100, 101]),
        (100, 99, [100, 99]),
        (100, 100, [100, 101]),
        (2, 0, [2, 1]),
    ],
)
def test_which_batches_are_tried(guess, edge, asked):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= edge

    assert (last_of(fits, guess), tried) == (edge, asked)


def test_a_probe_has_no_fallbacks_unless_it_says_so():
    assert Probe(1, True, 0, 0, 0).fallbacks == 0


@pytest.mark.parametrize(
    ("room_bytes", "start", "asked", "found"),
    [
        (lambda batch: 10 - batch, 2, [2, 1, 10, 2], 10),  # one byte an image
        (lambda batch: 100 - batch // 4, 8, [8, 4, 400, 8], 400),  # less than a byte an image
    ],
)
def test_room_that_ends_slowly(room_bytes, start, asked, found):
    test_where_room_ends_is_looked_for_along_lines(room_bytes, start, asked, found)
