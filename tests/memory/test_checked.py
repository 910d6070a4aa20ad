"""Steps whose memory does not grow by the same for each sample: right at the answer, or refused with the line."""

import re

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench.memory import Card, NotRecordableError, Probe, SimulatedEngine, record
from bench.memory.checked import CheckedStep, check_at
from bench.memory.recording import record_events
from bench.memory.trace import constant
from bench.step_memory import StepMemory
from bench.units import MiB

META = torch.device("meta")
CARD = Card("a card of 64 MiB", 64 * MiB, 0, None, None, "made up")
SAMPLE = 2**18  # numbers


def engine_of(trace):
    return SimulatedEngine(trace, CARD)


def probe_at(make_step, batch) -> Probe:
    """What the step takes at exactly this batch."""
    return engine_of(constant(record_events(make_step, batch, META))).probe(batch)


def largest_of_all(make_step, first=1, last=60) -> int:
    """The largest batch of which the next two do not fit, by trying every one."""
    fits = {batch: probe_at(make_step, batch).fits for batch in range(first, last)}
    return max(batch for batch in range(first, last - 2) if fits[batch] and not fits[batch + 1] and not fits[batch + 2])


def training(step_of):
    """`step_of(model, batch, device)` runs within a training step of a small perceptron."""

    def make_step(batch, device):
        model = nn.Sequential(nn.Linear(SAMPLE, 4), nn.Tanh(), nn.Linear(4, 64)).to(device)
        optimizer = torch.optim.Adam(model.parameters())

        def step():
            optimizer.zero_grad()
            step_of(model, batch, device)
            optimizer.step()

        return step

    return make_step


def samples(count, device):
    return torch.rand(count, SAMPLE, device=device)


def micro_batches(model, batch, device):
    for part in samples(batch, device).split(4):
        model(part).square().mean().backward()


def padded_to_eight(model, batch, device):
    model(samples(-(-batch // 8) * 8, device)).square().mean().backward()


def recomputed_above_eight(model, batch, device):
    values = samples(batch, device).requires_grad_()
    forward = (lambda x: checkpoint(model, x, use_reentrant=False)) if batch > 8 else model
    forward(values).square().mean().backward()


def twice_as_much_above_sixteen(model, batch, device):
    model(samples(batch if batch <= 16 else 2 * batch, device)).square().mean().backward()


def a_smaller_last_batch(model, batch, device):
    for count in (batch, max(batch // 2, 1), batch):
        model(samples(count, device)).square().mean().backward()


def all_pairs(model, batch, device):
    values = samples(batch, device)
    (model(values) @ model(values).T).expand(512, -1, -1).clone().square().mean().backward()


@pytest.mark.parametrize(
    "step_of",
    [
        micro_batches,
        padded_to_eight,
        recomputed_above_eight,
        twice_as_much_above_sixteen,
        a_smaller_last_batch,
        all_pairs,
    ],
)
def test_the_largest_batch_is_that_of_recordings_at_every_batch(step_of):
    make_step = training(step_of)
    step = CheckedStep(make_step)
    found = step.largest_batch(engine_of)
    assert found.batch == largest_of_all(make_step, last=60)
    assert found.at_edge == probe_at(make_step, found.batch)
    for batch in (1, 9, 17, found.batch + 1):
        step.holds_at(batch)
        assert engine_of(step.trace).without_limit().probe(batch) == engine_of(
            constant(record_events(make_step, batch, META))
        ).without_limit().probe(batch)


def test_the_batch_beyond_the_answer_is_looked_at_as_well():
    """A step that takes next to nothing there: the fit says that it does not fit, and it does."""
    ordinary = training(lambda model, batch, device: model(samples(batch, device)).sum().backward())
    beyond = largest_of_all(ordinary) + 1

    def but_for_one(model, batch, device):
        model(samples(1 if batch == beyond else batch, device)).sum().backward()

    assert CheckedStep(training(but_for_one)).largest_batch(engine_of).batch == beyond


def test_a_cell_is_held_at_its_answer():
    trace = record(training(twice_as_much_above_sixteen))
    check_at(training(twice_as_much_above_sixteen), trace, [15, 16])
    with pytest.raises(
        NotRecordableError,
        match=r"another at batch 17 than at batches 2 and 3: aten\.rand\.default of 35,651,584 bytes where "
        r"aten\.rand\.default of 17,825,792 bytes was expected",
    ):
        check_at(training(twice_as_much_above_sixteen), trace, [16, 17])


def test_an_ordinary_step_is_fitted_and_holds():
    make_step = training(lambda model, batch, device: model(samples(batch, device)).sum().backward())
    step = CheckedStep(make_step)
    assert step.largest_batch(engine_of).batch == largest_of_all(make_step)
    assert step.is_fitted
    assert not step.trace.exceptions


def test_normalisation_of_one_sample_is_no_batch():
    def normalised(model, batch, device):
        norm = nn.BatchNorm1d(64).to(device)
        norm(model(samples(batch, device))).sum().backward()

    step = CheckedStep(training(normalised))
    assert "ValueError: Expected more than 1 value per channel" in step.trace.impossible[1]
    assert step.largest_batch(engine_of).batch == largest_of_all(training(normalised), first=2, last=60)
    check_at(training(normalised), step.trace, [1])  # it fails there, as the trace says
    with pytest.raises(
        NotRecordableError, match="runs at batch 2 and not at batch 1: ValueError: Expected more than 1"
    ):
        step.holds_at(1)


def test_even_batches_alone_are_refused_at_their_line():
    def paired(model, batch, device):
        model(samples(batch, device).view(batch // 2, 2, SAMPLE)).sum().backward()

    with pytest.raises(
        NotRecordableError,
        match=r"runs at batch 2 and not at batch 3: RuntimeError: shape .*test_checked\.py:\d+, in paired: `model\(",
    ):
        StepMemory(training(paired))


def test_a_batch_that_fails_in_the_search_is_refused():
    def at_most_sixteen(model, batch, device):
        if batch > 16:
            raise IndexError("no more samples")
        model(samples(batch, device)).sum().backward()

    with pytest.raises(NotRecordableError, match=r"runs at batch 2 and not at batch \d+: IndexError: no more samples"):
        StepMemory(training(at_most_sixteen)).largest_batch(cap="8GB")


def test_a_step_that_keeps_more_each_time_is_refused_with_bytes_and_line():
    def make_step(batch, device):
        kept = []
        return lambda: kept.append(torch.zeros(batch, 1000, device=device))

    with pytest.raises(NotRecordableError) as refused:
        StepMemory(make_step)
    assert "keeps 8,000 bytes more each time" in str(refused.value)
    assert re.search(r"allocates 8,000 of them at \S*test_checked\.py:\d+\. ", str(refused.value))


def test_of_what_a_step_keeps_the_most_is_named():
    def make_step(batch, device):
        kept = []

        def step():
            kept.append(torch.ones(batch, 1000, device=device))
            kept.append(torch.zeros(batch, 3000, device=device))
            kept.append(torch.ones(batch, 2000, device=device))

        return step

    with pytest.raises(
        NotRecordableError, match=r"keeps 48,000 bytes more each time .*: aten\.zeros\S* allocates 24,000"
    ):
        CheckedStep(make_step)


def test_where_one_sample_is_no_batch_the_room_of_two_is_asked_about():
    """A step of two samples on a card on which even that does not fit, and that no line describes."""

    def normalised(model, batch, device):
        norm = nn.BatchNorm1d(64).to(device)
        norm(model(samples(batch if batch <= 16 else 2 * batch, device))).sum().backward()

    step = CheckedStep(training(normalised))
    step.holds_at(17)
    small = Card("a card of 12 MiB", 12 * MiB, 0, None, None, "made up")
    assert step.largest_batch(lambda trace: SimulatedEngine(trace, small)).batch == 0


def test_a_step_that_is_another_the_next_time_is_refused():
    made = []

    def make_step(batch, device):
        made.append(batch)
        size = 1000 if len(made) <= 3 else 2000
        return lambda: torch.zeros(batch, size, device=device)

    with pytest.raises(NotRecordableError, match=r"not allocate the same each time: .*16,000 bytes where .*8,000"):
        CheckedStep(make_step)


@pytest.mark.parametrize("steps", [1, 0, -1])
def test_less_than_two_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}, expected at least 2"):
        StepMemory(training(micro_batches), steps=steps)


def test_a_step_that_forgets_the_device_is_refused():
    with pytest.raises(NotRecordableError, match="nothing that the step allocates on `device` grows with the batch"):
        StepMemory(lambda batch, device: lambda: torch.zeros(batch))


@pytest.mark.parametrize("error", [KeyError("layer"), ZeroDivisionError("division"), RuntimeError("mat1 and mat2")])
def test_an_error_of_the_step_keeps_its_type_and_line(error):
    def make_step(batch, device):
        def broken():
            raise error

        return broken

    with pytest.raises(type(error)) as told:
        StepMemory(make_step)
    assert told.value is error
    assert told.traceback[-1].name == "broken"


@pytest.mark.parametrize("when", ["in make_step", "before", "by the module"])
def test_what_is_compiled_is_said_and_runs_as_it_is(when, recwarn):
    layer = nn.Linear(8, 8, device=META)
    before = torch.compile(layer) if when == "before" else None

    def make_step(batch, device):
        model = before if when == "before" else torch.compile(layer) if when == "in make_step" else layer
        if when == "by the module":
            model.compile()
        return lambda: model(torch.zeros(batch, 8, device=device)).sum().backward()

    def make_step_without(batch, device):
        return lambda: layer(torch.zeros(batch, 8, device=device)).sum().backward()

    events = record_events(make_step, 2, META)
    assert [warning for warning in recwarn if "torch.compile is not recorded" in str(warning.message)]
    layer._compiled_call_impl = None
    layer.zero_grad()
    assert [(e.op, e.size_bytes) for e in events] == [
        (e.op, e.size_bytes) for e in record_events(make_step_without, 2, META)
    ]
