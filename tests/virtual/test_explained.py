"""What the card's peak is made of, where some of its events are the recording's and some are not."""

from collections import Counter
from itertools import accumulate

import torch

from bench.memory import CARDS, SimulatedEngine, record
from bench.memory.allocator.caching import FREE
from bench.memory.explaining.explain import Category, explain
from bench.memory.explaining.sources import locate
from bench.memory.trace import Workspace
from bench.units import MiB
from bench.virtual import VirtualMeasurement
from bench.virtual.explained import explain_on_card

CARD, BATCH = CARDS["RTX 3080"], 2


def make_step(batch, device):
    weight = torch.rand(512, 512, device=device, requires_grad=True)

    def step():
        weight.grad = None
        (torch.rand(batch * 1000, 512, device=device) @ weight).exp().sum().backward()

    return step


def on_card(events):
    """(key, bytes) as a card tells them: keys count the allocations."""
    numbers = {}
    told = []
    for key, size_bytes in events:
        if size_bytes is FREE:
            told.append((numbers[key], FREE))
        elif size_bytes:
            numbers[key] = len(numbers)
            told.append((numbers[key], size_bytes))
    return told


class Card:
    """Stands for a VirtualEngine that saw these events."""

    card = CARD

    def __init__(self, events, fits=True, failures=(), emptyings=()):
        self.seen = VirtualMeasurement(
            *(fits, 0, 0, 0, 0, CARD.usable_bytes, None, None, "card", "2", None),
            values_read=0,
            selections=0,
            lower_bounds=(),
            events=tuple(events),
            failures=failures,
            emptyings=emptyings,
        )

    def watch(self, batch):
        return self.seen


def simulated():
    return SimulatedEngine(record(make_step), CARD, Workspace.LOW)


def explained(card):
    engine = simulated()
    return explain_on_card(card, engine, BATCH, locate(make_step, record(make_step), BATCH))


def test_equal_events_have_the_recordings_explanation():
    engine = simulated()
    expected = explain(engine, BATCH, locate(make_step, record(make_step), BATCH))
    found = explained(Card(on_card(engine.events(BATCH))))
    assert found.categories == expected.categories and found.rows == expected.rows
    assert found.peak_reserved_bytes == expected.peak_reserved_bytes


def test_events_of_an_engine_are_those_of_its_trace():
    engine = simulated()
    assert Counter(engine.events(BATCH)) == Counter(
        event for event in engine.trace.at(BATCH, Workspace.LOW) if event[1] != 0
    )


def test_what_the_card_alone_takes_at_its_peak_is_workspace_of_what_runs_then():
    engine = simulated()
    expected = explain(engine, BATCH, locate(make_step, record(make_step), BATCH))
    events = engine.events(BATCH)
    sizes = dict(event for event in events if event[1] is not FREE)
    alive = list(accumulate(-sizes[key] if size_bytes is FREE else size_bytes for key, size_bytes in events))
    peak = len(alive) - alive[::-1].index(max(alive))  # after the last event with the most
    found = explained(Card(on_card([*events[:peak], (-1, 8 * MiB), (-1, FREE), *events[peak:]])))
    assert found.peak_allocated_bytes == expected.peak_allocated_bytes + 8 * MiB
    workspace = Category.WORKSPACE
    assert found.categories[workspace] == expected.categories[workspace] + 8 * MiB
    assert found.source.place == expected.source.place and found.source.place
    assert sum(found.categories.values()) == CARD.total_bytes


def test_what_failed_on_the_way_releases_the_cache():
    """16 GiB in vain: what is cached goes, as it did on the card."""
    engine = simulated()
    events = on_card(engine.events(BATCH))
    last_free = max(place for place, (_, size) in enumerate(events) if size is FREE)
    found = explained(Card(events, failures=((last_free, 2**34),)))
    assert found.fits and found.retries == 1
    assert [entry.size_bytes for entry in found.history if entry.action == "oom"] == [2**34]


def test_where_memory_ran_out_is_the_last_failure():
    engine = simulated()
    events = on_card(engine.events(BATCH))
    found = explained(Card(events, fits=False, failures=((len(events), 2**34),)))
    assert not found.fits and found.failed_request_bytes == 2**34
    assert found.categories[Category.FREE] >= 0


def test_a_cache_that_the_step_emptied_is_not_reserved():
    """30 MiB that are gone beside 40 that come, each a segment of its own."""
    more = [(-2, 30 * MiB), (-2, FREE), (-1, 40 * MiB), (-1, FREE)]
    events = on_card([*more, *simulated().events(BATCH)])
    reserved = [
        explained(Card(events, emptyings=emptyings)).history[len(more)].reserved_bytes for emptyings in ((), (2,))
    ]
    assert reserved == [70 * MiB, 40 * MiB]
