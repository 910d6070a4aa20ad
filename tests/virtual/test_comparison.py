"""The smallest difference between a recording and the virtual card, against cases done by hand and a slow oracle."""

import random
from collections import Counter

import pytest

from bench.memory.allocator.caching import FREE
from bench.virtual import comparison
from bench.virtual.comparison import TooDifferentError, compare, pairs
from bench.virtual.goldens import events_of

KiB = 1024


def recording(*sizes):
    """Allocations that are kept."""
    return list(enumerate(sizes))


def on_card(*sizes):
    """As `recording`; a free where -k stands, of the k-th last."""
    return list(events_of(sizes))


def test_the_same_events_are_the_same():
    difference = compare(recording(KiB, 4 * KiB, KiB), on_card(KiB, 4 * KiB, KiB))
    assert difference.same == 3
    assert not (difference.temporaries or difference.on_card or difference.recorded)


def test_sizes_are_blocks():
    difference = compare(recording(4, 513, 0), on_card(512, 1000))
    assert difference.same == 2 and not difference.recorded


def test_a_block_of_one_side_alone():
    difference = compare(recording(KiB, 2 * KiB), on_card(KiB, 3 * KiB, 2 * KiB))
    assert (difference.same, difference.on_card, difference.recorded) == (2, Counter({3 * KiB: 1}), Counter())
    difference = compare(recording(KiB, 3 * KiB, 2 * KiB), on_card(KiB, 2 * KiB))
    assert (difference.same, difference.on_card, difference.recorded) == (2, Counter(), Counter({3 * KiB: 1}))


def test_what_is_given_back_at_once_is_a_temporary():
    card = on_card(KiB, 5 * KiB, -1, 2 * KiB, 5 * KiB, -1, 7 * KiB, -1, -5, -3)
    difference = compare([(1, KiB), (2, 5 * KiB), (2, FREE), (3, 2 * KiB), (1, FREE), (3, FREE)], card)
    assert difference.temporaries == Counter({5 * KiB: 1, 7 * KiB: 1})
    assert difference.same == 6 and not difference.on_card and not difference.recorded
    assert difference.summary() == {
        "same": 6,
        "temporaries": 2,
        "largest_of_temporaries": 7 * KiB,
        "on_card": 0,
        "largest_of_on_card": 0,
        "recorded": 0,
        "largest_of_recorded": 0,
    }


def test_frees_that_follow_each_other_have_no_order():
    card = on_card(KiB, 2 * KiB, 3 * KiB, -2, -1)
    assert compare(recording(KiB), card).temporaries == Counter({2 * KiB: 1, 3 * KiB: 1})
    card = on_card(KiB, 2 * KiB, 3 * KiB, -3, -2)
    difference = compare([(1, KiB), (2, 2 * KiB), (3, 3 * KiB), (2, FREE), (1, FREE)], card)
    assert difference.same == 5 and not difference.temporaries


def test_temporaries_close_as_brackets_do():
    difference = compare(recording(), on_card(KiB, 2 * KiB, -1, KiB, -1, -3))
    assert difference.temporaries == Counter({KiB: 2, 2 * KiB: 1}) and not difference.on_card


def longest_common(one, other):
    """The length of the longest common subsequence, by the table of all pairs."""
    row = [0] * (len(other) + 1)
    for left in one:
        above = row[:]
        for place, right in enumerate(other, 1):
            row[place] = above[place - 1] + 1 if left == right else max(above[place], row[place - 1])
    return row[-1]


@pytest.mark.parametrize("seed", range(60))
def test_the_difference_is_the_smallest(seed):
    draw = random.Random(seed)
    one, other = ([draw.randrange(1, 4) for _ in range(draw.randrange(12))] for _ in range(2))
    only_one, only_other = comparison.smallest_difference(one, other)
    assert [value for place, value in enumerate(one) if place not in only_one] == [
        value for place, value in enumerate(other) if place not in only_other
    ]
    assert len(one) - len(only_one) == longest_common(one, other)
    assert sorted(only_one) == only_one and sorted(only_other) == only_other


def test_two_steps_that_have_nothing_in_common_are_said(monkeypatch):
    monkeypatch.setattr(comparison, "MOST_DIFFERENCES", 10)
    with pytest.raises(TooDifferentError, match="differ in more than 10 events"):
        compare(recording(*[KiB] * 10), on_card(*[2 * KiB] * 10))


def test_pairs_name_the_same_allocations():
    recorded = [(1, KiB), (2, 5 * KiB), (2, FREE), (3, 2 * KiB), (1, FREE), (3, FREE)]
    card = on_card(KiB, 7 * KiB, -1, 5 * KiB, -1, 2 * KiB, 5 * KiB, -1, -5, -2)
    found = pairs(recorded, card)
    assert {place: recorded[other] for place, other in found.items() if card[place][1] is not FREE} == {
        0: (1, KiB),
        3: (2, 5 * KiB),
        5: (3, 2 * KiB),
    }  # neither the temporary of 7 KiB nor the later one of 5 KiB


def test_temporaries_pair_in_order_and_where_the_same_surrounds_them():
    recorded = [(1, KiB), (1, FREE), (2, 2 * KiB), (2, FREE), (3, 4 * KiB), (4, KiB), (4, FREE), (5, KiB), (5, FREE)]
    card = on_card(2 * KiB, -1, KiB, -1, 4 * KiB, KiB, -1, KiB, -1, KiB, -1)
    found = pairs(recorded, card)
    assert {place: recorded[other][0] for place, other in found.items()} == {0: 2, 4: 3, 5: 4, 7: 5}


@pytest.mark.parametrize("seed", range(20))
def test_equal_events_pair_one_to_one(seed):
    draw = random.Random(seed)
    card, alive = [], []
    for key in range(80):
        if alive and draw.random() < 0.5:
            card.append((alive.pop(draw.randrange(len(alive))), FREE))
        else:
            card.append((key, draw.choice((KiB, 2 * KiB, 3 * KiB))))
            alive.append(key)
    found = pairs(card, card)
    allocations = {place for place, (_, size) in enumerate(card) if size is not FREE}
    assert {place: other for place, other in found.items() if place in allocations} == {
        place: place for place in allocations
    }
