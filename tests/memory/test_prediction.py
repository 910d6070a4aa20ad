"""Which workspaces a step of one's own is predicted with: cuDNN's own where they are known, else a bound."""

import pytest
import torch

from bench.memory import CARDS, card_of_capacity, prediction, record
from bench.memory.cudnn.envelope import Envelope
from bench.memory.simulated import TypicalWorkspaces

TRACE = record(lambda batch, device: lambda: torch.empty(batch, 1000, device=device))


@pytest.fixture
def known(monkeypatch):
    """What cuDNN is asked about, by card; nobody knows any other."""
    sources = {"RTX 3080": TypicalWorkspaces(), "H200": TypicalWorkspaces()}
    monkeypatch.setattr("bench.memory.prediction.workspaces", lambda card: sources.get(card.name))
    return sources


def test_workspaces_that_are_known_are_taken(known):
    engine = prediction.prediction(TRACE, CARDS["RTX 3080"])
    assert (engine.workspaces, engine.card) == (known["RTX 3080"], CARDS["RTX 3080"])
    cap = card_of_capacity("8GB")
    engine = prediction.prediction(TRACE, cap, kernels_of=CARDS["H200"])
    assert (engine.workspaces, engine.card) == (known["H200"], cap)


def test_where_nobody_knows_them_they_have_a_bound_and_cublas_its_most(known):
    cap = card_of_capacity("8GB")  # with which an RTX 5060 is sold, of Blackwell
    engine = prediction.prediction(TRACE, cap)
    assert isinstance(engine.workspaces, Envelope)
    assert not engine.workspaces.is_exact
    assert engine.card.usable_bytes == cap.usable_bytes
    assert engine.card.cublas_workspace_config == ":4096:8" != cap.cublas_workspace_config
