"""The stage timing: what it counts is exact, what it times is only checked for its form."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_networks import small

from bench import models
from bench.cells import suite
from bench.config import TimingSection, default_path, load
from bench.errors import UsageError
from bench.execution import devices
from bench.memory.gpus import card_of_capacity
from bench.stages import timing

OPTIONS = TimingSection(device="cpu", batch=2, warmup=1, repeats=4, seconds_per_quantity=60)
STAGES, EVALUATIONS = 3, 7
BLUR = """
[task.small]
operator = "GaussianBlur"
options = { image_shape = [3, 16, 16] }
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(timing, "available_cores", lambda: 1)


@pytest.fixture
def cell(tmp_path):
    (tmp_path / "small.toml").write_text(BLUR)

    def cell(architecture, batch=2, card="8GB", **solver):
        config = load(tmp_path / "small.toml", {"timing": OPTIONS.model_dump() | {"batch": batch}})
        solver = replace(config.model.solver, **{"max_evaluations": EVALUATIONS, "tolerance": 0.0} | solver)
        model = replace(small(config.model), stages=STAGES, solver=solver)
        config = config.model_copy(update={"model": model})
        (result,) = suite.cells(config, [architecture], ["small"], stage="timing", cards=[card_of_capacity(card)])
        return result

    return cell


def measured(cell, tmp_path):
    record = suite.measure(cell, None, tmp_path)
    assert record.status == "ok", record.reason
    return record


# A and A^T of one step, from the architectures' definitions: an unrolled stage is one gradient step, x + A^T (y - A x);
# backward takes A^T of every A and A of every A^T, but for stage 1, whose input is the measurement and trains nothing.
# DEQ4IP: one gradient step per evaluation and one at the fixed point; one of each per evaluation of the backward solve,
# and at the end what reaches the step size through the graph at the fixed point, whose input is detached.
# i-RIM: backward takes each gradient away again, and A^T A of its own gradient.
UNROLLED = {"evaluation": (STAGES, STAGES), "training": (2 * STAGES - 1, 2 * STAGES - 1)}
EXPECTED = {"LU-DnCNN": UNROLLED, "LUSER-SW": UNROLLED, "LUSER-DW": UNROLLED}
EXPECTED["i-RIM"] = {"evaluation": (STAGES, STAGES), "training": (3 * STAGES, 3 * STAGES)}


@pytest.mark.parametrize("architecture", models.names())
def test_a_step_is_counted_to_the_call(cell, tmp_path, architecture):
    record = measured(cell(architecture), tmp_path)
    found = record.timing
    assert (record.stage, record.image_shape, found.batch, found.batch_chosen) == ("timing", (3, 16, 16), 2, "stated")
    assert len(found.training_step_seconds) == len(found.evaluation_seconds) == OPTIONS.repeats
    assert all(seconds > 0 for seconds in found.training_step_seconds + found.evaluation_seconds)
    of_memory = measured(replace(cell(architecture), stage="memory", cards=(card_of_capacity("8GB"),)), tmp_path)
    assert found.peak_bytes_per_image == of_memory.memory.peak_bytes_per_image  # of the same network, recorded twice
    assert record.parameters == of_memory.parameters
    calls = {
        "evaluation": (found.evaluation_calls.forward, found.evaluation_calls.adjoint),
        "training": (found.training_calls.forward, found.training_calls.adjoint),
    }
    if architecture == "DEQ4IP":
        assert calls["evaluation"] == (EVALUATIONS + 1, EVALUATIONS + 1)
        assert calls["training"][0] == calls["training"][1] >= 2 * EVALUATIONS + 1
    elif architecture in EXPECTED:
        assert calls == EXPECTED[architecture]
    if not models.get(architecture).has_fixed_points:
        assert found.solver_evaluations is found.backward_evaluations is None
    else:
        assert (found.solver_evaluations, found.backward_evaluations) == (EVALUATIONS, EVALUATIONS)


def test_the_papers_claim_luser_applies_the_operator_less_often_than_deq4ip(cell, tmp_path):
    luser = measured(cell("LUSER-SW"), tmp_path).timing
    deq = measured(cell("DEQ4IP"), tmp_path).timing
    assert luser.training_calls.forward < deq.training_calls.forward
    assert luser.evaluation_calls.adjoint < deq.evaluation_calls.adjoint


def test_the_largest_batch_is_the_simulations(cell, tmp_path):
    chosen = cell("LUSER-SW", batch="largest", card="0.6GB")
    found = measured(chosen, tmp_path).timing
    (card,) = chosen.cards
    (memory,) = suite.cells(chosen.config, ["LUSER-SW"], ["small"], cards=[card])
    assert found.batch == suite.measure(memory, None, tmp_path).card(card.name).edges["high"].largest_batch > 1
    assert found.batch_chosen == "largest"
    assert cell("LUSER-SW", batch="largest", card="8GB").key != chosen.key


def test_no_batch_fits(cell, tmp_path):
    record = suite.measure(cell("LU-DnCNN", batch="largest", card="0.489GB"), None, tmp_path)
    assert record.status == "failed"
    assert "batch 1 does not fit on 0.489GB" in record.reason


class Clock:
    """Seconds that pass only when something runs."""

    def __init__(self, durations):
        self.now, self.durations, self.runs = 0.0, itertools.chain(durations, itertools.repeat(durations[-1])), 0

    def perf_counter(self):
        return self.now

    def run(self):
        self.runs += 1
        self.now += next(self.durations)


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(100.0, [2.0, 3.0, 4.0, 4.0]), (8.5, [2.0, 3.0, 4.0]), (0.1, [2.0, 3.0, 4.0])],
)
def test_warm_up_does_not_count_and_the_budget_ends_the_repeats(monkeypatch, budget, seconds):
    clock = Clock([50.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    options = OPTIONS.model_copy(update={"seconds_per_quantity": budget})
    assert timing.repeated_seconds(clock.run, torch.device("cpu"), options) == seconds
    assert clock.runs == options.warmup + len(seconds)


def test_a_gpu_is_synchronised_before_and_after_every_repeat(monkeypatch):
    happened = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: happened.append("synchronise"))
    timing.repeated_seconds(lambda: happened.append("run"), torch.device("cuda"), OPTIONS)
    assert happened == ["run", *["synchronise", "run", "synchronise"] * OPTIONS.repeats]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_without_a_gpu():
    assert devices.chosen("auto") == devices.chosen("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="device cuda needs a GPU, but PyTorch finds none"):
        devices.chosen("cuda")
    assert devices.describe(torch.device("cpu")).startswith("CPU ")


def test_presets():
    with pytest.raises(UsageError, match="unknown preset 'tiny': known are paper, demo, evening"):
        load(default_path(), preset="tiny")
    plain, paper, demo = (load(default_path(), preset=name) for name in (None, "paper", "demo"))
    assert (
        replace(paper.model, deq4ip=plain.model.deq4ip) == plain.model
        and paper.task == plain.task
        and paper.suite.preset == "paper"
    )
    assert demo.model.stages < plain.model.stages
    for name, task in demo.task.items():
        assert task.operator == plain.task[name].operator
        assert task.options.keys() >= plain.task[name].options.keys()
        assert task.options != plain.task[name].options
    assert demo.task["mri-8x"].options["acceleration"] == 8
