"""Many calls in one training step, so that what each takes can be told: for the virtual card, and for a recording."""

import torch

from bench.memory.allocator.caching import FREE
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.trace import Workspace, constant

MARKER_BYTES = 3  # an allocation of so many stands before and after each call


class AllCalls:
    """A make_step that makes every call in turn, each result given back before the next; the batch does nothing.

    A call has a method `prepared(device)` that makes its arguments and gives a function without any.
    """

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, batch, device):
        def step():
            for call in self.calls:
                function = call.prepared(device)
                torch.empty(MARKER_BYTES, dtype=torch.uint8, device=device)
                function()
                torch.empty(MARKER_BYTES, dtype=torch.uint8, device=device)
                del function

        return step


def by_call(events):
    """What each call took, from the step's (key, bytes) events: bytes in order, or -k for the free of the k-th."""
    answers, marker, keys = [], None, None
    for key, size in events:
        if size == MARKER_BYTES:
            marker = key
            if keys is None:
                answers.append([])
            keys = [] if keys is None else None
        elif keys is not None and key != marker:
            if size is FREE and key in keys:
                answers[-1].append(keys[::-1].index(key) - len(keys))
            elif size not in (0, FREE):
                keys.append(key)
                answers[-1].append(size)
    return answers


def recorded(calls, card):
    """The same of a recording without data, of a step that says "cuda" itself, for a card."""
    with on_cuda(card):
        trace = constant(events_of(AllCalls(calls), 1, 1))
    return by_call(trace.on(card).at(1, Workspace.LOW))[: len(calls)]


def agrees(told, took):
    """Whether a recorded answer is a card's, in which the order of frees says nothing.

    A gradient's are in the order in which threads let go of it, the last of them after the call; but what a card has
    given back by then, the recording has, and nothing twice.
    """
    frees, on_card = ([event for event in answer if event < 0] for answer in (told, took))
    return settled(told) == settled(took) and set(on_card) <= set(frees) and len(set(frees)) == len(frees)


def settled(answer):
    """Allocations in order, and what was freed before each: frees after the last may come after the call as well."""
    events, frees = [], []
    for event in answer:
        if event < 0:
            frees.append(event)
        else:
            events += [*sorted(frees), event]
            frees = []
    return events


def rounded(answer):
    """Allocations as the allocator gives them, in multiples of 512 bytes: cuDNN's workspaces end within these."""
    return [-(-event // 512) * 512 if event > 0 else event for event in answer]
