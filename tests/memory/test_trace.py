"""Traces of a few events, to the byte."""

import torch

from bench.memory import CARDS, SimulatedEngine, record
from bench.memory.allocator.caching import FREE
from bench.memory.gpus import Card
from bench.memory.simulated import TypicalWorkspaces
from bench.memory.trace import Event, Workspace, agrees, constant, freed
from bench.units import MiB


def test_an_event_is_an_allocation_of_the_program_itself_unless_it_says_so():
    assert Event(7, 9, False, "a") == (7, 9, False, "a", None, None, False, False, None, False)
    assert freed(7) == Event(7, 0, False, "free", is_free=True)


def test_nothing_takes_nothing():
    trace = constant([])
    assert (trace.peak_live_bytes(1), trace.at(1), len(trace), trace.grows) == (0, [], 0, False)


def test_live_bytes_count_every_block_rounded_and_give_it_back():
    trace = constant([Event(0, 1, False, "a"), Event(1, 513, False, "b"), freed(0), Event(2, 5, True, "c"), freed(1)])
    assert trace.live_bytes(1).tolist() == [512, 1536, 1024, 1536, 512]
    assert trace.live_bytes(1, Workspace.LOW).tolist() == [512, 1536, 1024, 1024, 0]


def two_convolutions(batch, device):
    kernels = [torch.zeros(4, 4, size, size, device=device) for size in (3, 5)]

    def step():
        for kernel in kernels:
            torch.nn.functional.conv2d(torch.zeros(batch, 4, 16, 16, device=device), kernel)

    return step


def test_a_recording_agrees_where_every_convolution_is_the_same():
    from bench.memory.recording.recorder import events_of

    trace, events = record(two_convolutions), events_of(two_convolutions, 3, 2)
    assert agrees(trace, 3, events)
    places = [place for place, event in enumerate(events) if event.call]
    assert len(places) == 4
    for place in places:
        call = events[place].call
        other = events[place]._replace(call=call._replace(dilation=tuple(2 * each for each in call.dilation)))
        assert not agrees(trace, 3, [*events[:place], other, *events[place + 1 :]])


def test_a_recording_agrees_where_the_same_events_free():
    events = [Event(0, 0, True, "a"), Event(0, 0, True, "a", is_free=True)]
    trace = constant(events)
    assert trace.at(3) == [(0, 0), (0, FREE)]
    assert agrees(trace, 3, events) and not agrees(trace, 3, [events[0], events[0]])


def one_tensor_per_image(batch, device):
    return lambda: torch.empty(batch, 100 * MiB, dtype=torch.uint8, device=device)


def test_the_guess_is_exact_where_the_card_is_full_to_the_byte():
    trace = record(one_tensor_per_image)
    for short_bytes, batch in ((0, 76), (1, 75)):
        card = Card("made up", 7600 * MiB - short_bytes, 0, None, None, "")
        assert SimulatedEngine(trace, card).guess() == batch


def test_an_engine_is_of_the_installed_release_and_has_no_fallbacks_without_workspaces():
    engine = SimulatedEngine(record(one_tensor_per_image), CARDS["H200"], Workspace.LOW)
    assert engine.config.torch_version == tuple(map(int, torch.__version__.split(".")[:2]))
    assert engine.probe(3).fallbacks == 0


def test_typical_workspaces_are_never_known():
    assert not SimulatedEngine(
        record(two_convolutions), CARDS["H200"], workspaces=TypicalWorkspaces()
    ).knows_workspaces(1)
