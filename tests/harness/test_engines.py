"""Engines by name."""

import pytest
import torch
from stand_in import StandIn

from bench.engines import engine_named, engine_that_runs
from bench.memory import CARDS, largest_batch
from bench.memory.measuring.cuda import CudaEngine
from bench.virtual import NoVirtualCardError, VirtualEngine

CARD = CARDS["RTX 3080"]


def make_step(batch, device):
    weight = torch.rand(1000, 1000, device=device, requires_grad=True)

    def step():
        weight.grad = None
        (torch.rand(batch * 1000, 1000, device=device) @ weight).sum().backward()

    return step


def test_the_recording_answers_with_a_cards_kernels():
    engine = engine_named("simulated", make_step, CARD, alloc_conf="expandable_segments:True", deterministic=True)
    assert engine.name == "simulated" and engine.config.expandable_segments
    assert engine.workspaces.flags == {"allow_tf32": True, "deterministic": True}
    boundary = largest_batch(engine)
    assert 1000 < boundary.batch < CARD.usable_bytes // 8_000_000


@pytest.mark.parametrize(("name", "kind"), [("cuda", CudaEngine), ("virtual", VirtualEngine)])
def test_what_runs_the_step_is_told_everything(name, kind):
    device = StandIn()
    options = {"steps": 3, "alloc_conf": "max_split_size_mb:64", "allow_tf32": False, "deterministic": True}
    engine = engine_that_runs(name, make_step, CARD, first_guess=7, device=device, **options)
    assert type(engine) is kind and engine.name == name and engine.guess() == 7
    trial = engine._trial(batch=5)
    assert {option: getattr(trial, option) for option in options} == options
    assert (trial.make_step, trial.batch, trial.limit_bytes) == (make_step, 5, CARD.usable_bytes)


def test_no_virtual_card_is_said(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(NoVirtualCardError):
        engine_named("virtual", make_step, CARD)


def test_an_unknown_engine_is_told_the_known_ones():
    with pytest.raises(ValueError, match="unknown engine 'gpu': known are simulated, virtual, cuda"):
        engine_named("gpu", make_step, CARD)
