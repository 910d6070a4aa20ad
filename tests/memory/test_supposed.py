"""Traces from one recording: those that a fit gives, or refused where other batches show something else."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from bench import config
from bench.cells import suite
from bench.memory import NotRecordableError, card_of_capacity, record
from bench.memory.normalisation import Normalisation
from bench.memory.recording.refusals import DependsOnBatchError, FailsAtBatchError
from bench.memory.reductions import Reduction
from bench.memory.staging import DropoutStates, Part, Staged, enlarged_staged
from bench.memory.supposed import PRIME, prove, supposed
from bench.stages import memory


def training(forward, features=8):
    """A training step of a convolution and what `forward(model, image)` makes of it."""

    def make_step(batch, device):
        model = nn.Sequential(nn.Conv2d(3, features, 3), nn.GroupNorm(2, features), nn.ReLU()).to(device)
        optimizer = torch.optim.Adam(model.parameters())

        def step():
            optimizer.zero_grad()
            forward(model, torch.rand(batch, 3, 20, 20, device=device)).backward()
            optimizer.step()

        return step

    return make_step


def mean(model, image):
    return model(image).mean()


def test_the_trace_is_that_of_a_fit():
    one, fit = supposed(training(mean)), record(training(mean))
    assert one.convolutions and one.reductions and (one.slope > 0).any() and (one.base > 0).any()
    for field in fields(one):
        values = [getattr(trace, field.name) for trace in (one, fit)]
        first, second = (value.tolist() if isinstance(value, np.ndarray) else value for value in values)
        assert first == second, field.name
    prove(training(mean), one, [1, 12])


@pytest.mark.parametrize("features", [2 * PRIME, 4 * PRIME])
def test_a_size_that_the_prime_divides_by_chance_is_found_out(features):
    make_step = training(mean, features)
    with pytest.raises(DependsOnBatchError, match="sizes at batch 12 are not what those at batch 37 let suppose"):
        prove(make_step, supposed(make_step), [12, 13])


def test_what_a_step_does_at_one_of_the_batches_counts():
    def twice_at_thirteen(model, image):
        return model(image.repeat(2, 1, 1, 1) if len(image) == 13 else image).mean()

    make_step = training(twice_at_thirteen)
    prove(make_step, supposed(make_step), [11, 12])
    with pytest.raises(DependsOnBatchError, match="sizes at batch 13"):
        prove(make_step, supposed(make_step), [12, 13])


def test_a_second_call_that_does_something_else_is_no_proof():
    def make_step(batch, device):
        sizes = iter([(batch, 8), (8, batch)])
        kept = []
        return lambda: kept.append(torch.rand(*next(sizes), device=device).sum(0))

    with pytest.raises(DependsOnBatchError, match="a later call allocates what the first does not"):
        prove(make_step, supposed(make_step), [12, 13])


@pytest.mark.parametrize("batches", [[], [12], [12, 12], [PRIME, 38]])
def test_two_other_batches_are_needed(batches):
    with pytest.raises(DependsOnBatchError, match="two batches beside 37 have to show how sizes grow"):
        prove(training(mean), supposed(training(mean)), batches)


def test_a_step_that_does_not_run_there_says_so():
    def at_most_twelve(model, image):
        assert len(image) in (12, PRIME)
        return mean(model, image)

    make_step = training(at_most_twelve)
    with pytest.raises(FailsAtBatchError):
        prove(make_step, supposed(make_step), [12, 13])


def test_what_a_card_takes_is_enlarged_with_the_batch():
    reduction = Reduction((PRIME, 3, 400), (1200, PRIME * 2, 1), (False, True, True), 5 * PRIME, 4, 4, 4)
    larger = reduction._replace(shape=(38, 3, 400), strides=(1200, 76, 1), offset=190)
    assert enlarged_staged(Staged(reduction, Part.SEMAPHORES), PRIME) == Staged(larger, Part.SEMAPHORES)
    assert enlarged_staged(Normalisation(PRIME * 9, PRIME, True, False), PRIME) == Normalisation(
        38 * 9, PRIME, True, False
    )
    assert enlarged_staged(DropoutStates(), PRIME) == DropoutStates()


@pytest.mark.parametrize("capacity", ["0.6GB", "1.25GB", "8GB"])  # the smallest asks about batch 1
def test_a_cell_has_the_answers_of_a_fit(capacity, tmp_path, monkeypatch):
    given = {"model": {"stages": 2}, "task": {"deblurring": {"options": {"image_shape": [3, 64, 64]}}}}
    cards = [card_of_capacity(capacity), card_of_capacity("2GB")]
    (cell,) = suite.cells(config.load(given=given), ["LU-DnCNN"], ["deblurring"], cards=cards)
    batches = []

    def proved(make_step, trace, where, cache):
        batches.append(list(where))
        prove(make_step, trace, where, cache)

    def refused(make_step, steps, cache):
        raise NotRecordableError

    monkeypatch.setattr(memory, "prove", proved)
    found = memory.measure(cell, None, tmp_path)
    monkeypatch.setattr(memory, "supposed", refused)
    assert found == memory.measure(cell, None, tmp_path)
    largest = max(edge.largest_batch for card in found["memory"].cards for edge in card.edges.values())
    assert batches == [[*([1] if capacity == "0.6GB" else []), largest, largest + 1]]
