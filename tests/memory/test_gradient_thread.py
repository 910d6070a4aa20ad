"""Gradients that are differentiated again, in the order of a card, and in the program's surroundings."""

import sys
import threading
import warnings

import pytest
import torch
from torch import nn

from bench.memory import record
from bench.memory.explaining.sources import Phase, locate
from bench.memory.recording import gradient_thread
from bench.memory.recording.gradient_thread import numbered_as_on_a_card
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import AssumedValue

next_number = torch._C._autograd._get_sequence_nr


def slope(values, hook=None):
    out = values.exp()
    if hook:
        out.register_hook(hook)
    (found,) = torch.autograd.grad(out.sum(), values, create_graph=True)
    return found


def leaf():
    return torch.ones(3, requires_grad=True)


def test_both_threads_number_from_where_the_recording_began():
    for before in (0, 5, 0):
        for _ in range(before):
            leaf().exp()
        start = next_number()
        with numbered_as_on_a_card():
            values = leaf()
            first = slope(values)  # exp, sum; then the product with exp, in its own thread
            after = values.exp()
            assert next_number() == start + 3
            assert after.grad_fn._sequence_nr() == start + 2
            numbers = [first.grad_fn._sequence_nr()]
            numbers.append(slope(values).grad_fn._sequence_nr())
        made = numbers[1] - numbers[0]  # by each gradient
        assert made > 0
        assert start <= numbers[0] < start + made


def test_the_program_makes_up_for_a_thread_that_is_ahead():
    """There is one thread, and at the start of each recording the next numbers of both are the same."""
    threads = []
    for _ in range(3):
        with numbered_as_on_a_card():
            ahead = gradient_thread._last.call(next_number) if gradient_thread._last else 0
            assert next_number() >= ahead
            values = leaf()
            out = values.exp()
            out.register_hook(lambda _: threads.append(threading.get_ident()))
            for _ in range(9):
                torch.autograd.grad(out, values, torch.ones(3), create_graph=True)
            assert gradient_thread._last.call(next_number) > next_number()
    assert len(threads) == 27 and len(set(threads)) == 1 and threading.get_ident() not in threads


def test_nodes_are_made_up_for_where_none_are_asked_for():
    with torch.no_grad():
        start = next_number()
        gradient_thread._number_from(start + 5)
        assert next_number() == start + 5


@pytest.mark.parametrize("kind", ["no graph", "transformed", "another thread"])
def test_other_gradients_stay_where_they_are(kind):
    found = []

    def gradient():
        values = leaf()
        out = values.exp()
        out.register_hook(lambda _: found.append(threading.get_ident()))
        torch.autograd.grad(out.sum(), values, create_graph=kind != "no graph")
        return threading.get_ident()

    def gradient_of(out):
        here.append(threading.get_ident())
        return torch.autograd.grad(values.exp(), values, out, create_graph=True)

    here = []
    with numbered_as_on_a_card():
        if kind == "transformed":
            values = leaf()
            values.register_hook(lambda _: found.append(threading.get_ident()))
            torch.func.vmap(gradient_of)(torch.ones(2, 3))
        elif kind == "another thread":
            thread = threading.Thread(target=lambda: here.append(gradient()))
            thread.start()
            thread.join()
        else:
            here.append(gradient())
    assert found and set(found) == set(here)


def test_what_fails_there_is_raised_here_and_the_next_one_works():
    def fail(gradient):
        raise KeyError("mine")

    with numbered_as_on_a_card():
        with pytest.raises(KeyError, match="mine"):
            slope(leaf(), fail)
        assert slope(leaf()).tolist() == pytest.approx([2.718281828] * 3)


def test_the_programs_surroundings_are_there_too():
    seen = {}

    def hook(gradient):
        seen["autocast"] = torch.is_autocast_enabled("cpu")
        seen["thread"] = gradient_thread.thread_of_the_program()
        seen["lines"] = [line.name for line in gradient_thread.stack()]
        return gradient.clone()

    def pack(value):
        packed.append(threading.get_ident())
        return value

    here, packed = threading.get_ident(), []
    with (
        torch.autocast("cpu"),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
        numbered_as_on_a_card(),
    ):
        slope(leaf(), hook)
    assert seen["autocast"] and seen["thread"] == here
    assert set(packed) == {here, *packed[1:]} and len(set(packed)) == 2
    names = seen["lines"]
    assert names.index("test_the_programs_surroundings_are_there_too") < names.index("slope") < names.index("hook")
    assert gradient_thread.thread_of_the_program() == here


def test_nothing_is_held_once_it_is_done():
    values = leaf()
    with numbered_as_on_a_card():
        found = slope(values)
        counts = sys.getrefcount(found), found._use_count()
        plain = values.exp()
        assert counts == (sys.getrefcount(plain), plain._use_count())


def penalty(hook=None):
    """A make_step."""

    def make_step(batch, device):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 3)).to(device)

        def step():
            image = torch.rand(batch, 3, 8, 8, device=device).requires_grad_()
            out = network(image)
            if hook:
                out.register_hook(hook)
            (gradient,) = torch.autograd.grad(out.sum(), image, create_graph=True)
            gradient.square().sum().backward()

        return step

    return make_step


def test_a_hook_that_reads_a_value_is_said_with_its_line_and_finds_the_card():
    found = []

    def hook(gradient):
        found.append(torch.cuda.is_available())
        torch.rand(2, device="cuda").sum().item()

    with on_cuda(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        events_of(penalty(hook), 2, 2)
    assert found == [True, True]
    assert any(
        warning.category is AssumedValue and "test_gradient_thread.py" in str(warning.message) for warning in said
    )


def test_what_is_computed_there_has_the_lines_of_the_program():
    trace = record(penalty())
    sources = locate(penalty(), trace, 2)
    innermost = [source.stack[0] for source in sources if source.step]
    assert {frame.function for frame in innermost} == {"step"}
    again = [source for source in sources if source.step and source.op == "aten.convolution.default"]
    lines = {source.phase: source.stack[0].line for source in again}
    assert lines[Phase.BACKWARD] - lines[Phase.FORWARD] == 3  # where the gradient is asked for
