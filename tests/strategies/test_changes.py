"""Changes around a step against the same step with the strategy written out by hand: each allocation and free of it."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.fitting.changes import CHANGES, Changed, micro_batches
from bench.fitting.observed import observe
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from tests.strategies.by_hand import CLASSES, SIDE, by_hand, make_step, network

AUTOCAST = partial(torch.autocast, "cuda", dtype=torch.bfloat16)
ON_HOST = partial(torch.autograd.graph.save_on_cpu, pin_memory=True)


def allocations(step, batch):
    """Everything that is allocated and freed, in order; what is freed at once, by number."""
    with on_cuda():
        events = events_of(step, batch, 2)
    told = []
    for is_free, together in itertools.groupby(events, lambda event: event.is_free):
        told += [(event.key, event.op, event.size_bytes) for event in (sorted(together) if is_free else together)]
    return told


@pytest.mark.parametrize(
    ("names", "parts", "options"),
    [
        ((), 1, {}),
        (("bf16",), 1, {"around": AUTOCAST}),
        (("host",), 1, {"around": ON_HOST}),
        (("fused",), 1, {"fused": True}),
        (("one-by-one",), 1, {"foreach": False}),
        (("channels-last",), 1, {"channels_last": True}),
        ((), 4, {}),
        (("bf16",), 2, {"around": AUTOCAST}),
        (("channels-last", "host", "fused"), 3, {"around": ON_HOST, "channels_last": True, "fused": True}),
    ],
)
def test_a_change_allocates_what_the_strategy_by_hand_allocates(names, parts, options):
    changed = allocations(Changed(make_step, names, parts), 6)
    written = allocations(partial(by_hand, parts=parts, **options), 6)
    assert changed == written


def in_float64(batch, device):
    """A step on the next `batch` of 8 samples, that clears its gradients at its end, and whose schedule binds it."""
    torch.manual_seed(0)
    model = network().to(device).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    samples = torch.rand(8, 3, SIDE, SIDE, dtype=torch.float64)
    labels = torch.arange(8) % CLASSES
    taken = 0

    def step():
        nonlocal taken
        these = slice(taken % 8, taken % 8 + batch)
        taken += batch
        functional.cross_entropy(model(samples[these]), labels[these]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    step.parameters = list(model.parameters())
    return step


def trained(names=(), parts=1, steps=3):
    """Parameters after three steps on all 8 samples."""
    made = []

    def kept(batch, device):
        made.append(in_float64(batch, device))
        return made[-1]

    step = Changed(kept, names, parts)(8 // parts, torch.device("cpu"))
    for _ in range(steps):
        step()
    return torch.cat([parameter.detach().flatten() for parameter in made[-1].parameters])


@pytest.mark.parametrize("names", [(), ("channels-last",), ("fused",), ("one-by-one",), ("set-to-none",)])
@pytest.mark.parametrize("parts", [1, 4, 8])
def test_training_is_the_same(names, parts):
    plain = trained()
    assert (trained(steps=2) - plain).norm() > 1e-3 * plain.norm()  # a step more or less is seen
    assert (trained(names, parts) - plain).norm() < 1e-13 * plain.norm()


@pytest.mark.parametrize(
    ("batch", "counts"),
    [(1, []), (7, [7]), (9, [3, 9]), (16, [2, 4, 8, 16]), (24, [2, 4, 8, 24]), (30, [2, 5, 10, 30])],
)
def test_into_how_many_parts_a_batch_is_divided(batch, counts):
    assert micro_batches.counts(batch) == counts


def of_a_product(batch, device):
    """One product of [batch, 256] and [256, 256] float32, whose gradient goes to the second."""
    weights = torch.nn.Parameter(torch.zeros(256, 256, device=device))

    def step():
        inputs = torch.empty(batch, 256, device=device)
        torch.autograd.backward(inputs @ weights, torch.empty(batch, 256, device=device))

    return step


def test_bytes_that_kernels_and_the_host_move_are_counted_by_hand():
    inputs, weights = 4 * 64 * 256, 4 * 256 * 256
    with on_cuda():
        plain = observe(of_a_product, 64, 2)
        saved = observe(of_a_product, 64, 2, partial(Changed, names=("host",)))
    forward, backward = 2 * inputs + weights, 2 * inputs + weights  # inputs^T gradient
    summed = 3 * weights  # into the gradient that the first call left
    assert plain.kernel_bytes == [forward + backward, forward + backward + summed]
    assert plain.host_bytes == [0, 0]
    assert saved.host_bytes == [inputs] * 2  # the weights' own gradient needs the inputs alone


def refusals(step, **more):
    with on_cuda():
        observed = observe(step, 4, 2)
    reasons = {name: change.refusal(observed) for name, change in CHANGES.items()}
    return {name: reason for name, reason in reasons.items() if reason}, micro_batches.refusal(observed), observed


def test_what_a_step_cannot_take():
    reasons, parts, observed = refusals(make_step)
    assert reasons == {"set-to-none": "the step lets its gradients go already"}
    assert (parts, observed.normalises_batches, observed.optimizers) == ("", False, {"Adam"})


def test_what_another_step_cannot_take():
    def other(batch, device):
        model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).to(device)
        optimizer = torch.optim.RMSprop(model.parameters())

        def step():
            model.zero_grad(set_to_none=False)
            with torch.autocast("cuda", dtype=torch.float16), torch.autograd.graph.save_on_cpu(pin_memory=True):
                loss = model(torch.rand(batch, 8, device=device)).square().mean()
            loss.backward()
            loss = model(torch.rand(batch, 8, device=device)).square().mean().backward()
            optimizer.step()
            optimizer.step()

        return step

    reasons, parts, observed = refusals(other)
    assert reasons == {
        "channels-last": "the step has no two-dimensional convolution",
        "bf16": "the step enters torch.autocast itself",
        "host": "the step keeps what backward needs on the host itself",
        "fused": "RMSprop has no fused kernel; choose one-by-one",
    }
    assert parts == "the step does not call backward and its optimiser's step, once, in each call"
    assert observed.normalises_batches


def test_a_step_without_an_optimiser():
    reasons, parts, _ = refusals(of_a_product)
    assert {reasons[name] for name in ("fused", "one-by-one")} == {"the step makes no optimiser of torch.optim"}
    assert parts


def test_a_norm_in_evaluation_takes_no_statistics_of_the_batch():
    def evaluating(batch, device):
        model = nn.BatchNorm1d(8).to(device).eval()
        return lambda: model(torch.rand(batch, 8, device=device)).mean().backward()

    with on_cuda():
        assert not observe(evaluating, 4, 2).normalises_batches


def test_a_checkpoints_own_backward_does_not_leave_the_context_twice():
    def checkpointed(batch, device):
        model = network().to(device)

        def step():
            images = torch.rand(batch, 3, SIDE, SIDE, device=device, requires_grad=True)
            torch.utils.checkpoint.checkpoint(model, images, use_reentrant=True).mean().backward()
            assert torch.is_autocast_enabled("cuda")

        return step

    with on_cuda():
        events_of(Changed(checkpointed, ("bf16",)), 4, 2)
        assert not torch.is_autocast_enabled("cuda")
