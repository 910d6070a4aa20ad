"""The commands on the virtual card, from the command line to the files, on a stand-in for it."""

import json

import pytest
from stand_in import VirtualStandIn

from bench.records import Row, Validation
from bench.report.terminal.validation import table

CELL = ("--architecture", "LU-DnCNN", "--task", "blur")
ON_CARD = ("--engine", "virtual", "--gpu", "RTX 3080")


@pytest.fixture
def card(monkeypatch):
    """There is a virtual card; it answers as the recording would, with 3 temporaries more."""
    card = VirtualStandIn(more=3)
    monkeypatch.setattr("bench.commands.measuring.virtual_cards", lambda cards: "the virtual card")
    monkeypatch.setattr("bench.virtual.engine.VirtualDevice", lambda of: card)
    return card


def test_validation_compares_event_for_event(bench, card, tmp_path):
    result = bench("validate", *ON_CARD, *CELL)
    assert result.returncode == 0, result.stderr
    path = tmp_path / "results/validation/virtual-card.json"
    (row,) = Validation.model_validate_json(path.read_bytes()).rows
    assert (row.cap, row.status, row.agrees) == ("RTX 3080", "ok", True)
    assert row.error("reserved_bytes") == 0
    assert row.events["temporaries"] == 3 and row.events["largest_of_temporaries"] == 512
    assert row.events["on_card"] == row.events["recorded"] == 0
    assert [trial.batch for trial in card.trials if trial.with_events] == [row.measured_batch]
    header, _, line = (text for text in result.stdout.splitlines() if text.startswith("|"))
    assert "events of both" in header and "card alone" in header and "recording alone" in header
    assert f"| {row.events['same']:,} " in line and "| 3 " in line and "equal" in line
    assert "on the virtual card, errors of the predicted peaks at the measured edge: 1 of 1 equal; " in result.stdout
    assert (
        f"{row.events['same']:,} events on both sides, 3 temporaries and allocations on one side only." in result.stdout
    )

    trials = len(card.trials)
    again = bench("validate", *ON_CARD, *CELL)
    assert (again.stdout, len(card.trials)) == (result.stdout, trials)


def test_a_gpu_has_no_columns_of_events():
    row = Row(
        architecture="a", task="t", cap="8GB", key="k" * 17, status="ok", usable_bytes=1, workspaces="cudnn",
        predicted_batch=1, measured_batch=1, seconds=0.1,
    )  # fmt: skip
    assert "events of both" not in table([row]).columns


def explained(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_an_explanation_of_the_card_is_the_recordings_where_both_do_the_same(bench, card):
    card.more = 0
    simulated = explained(bench("explain", *CELL, "--gpu", "RTX 3080", "--batch", 3, "--json"))
    virtual = explained(bench("explain", *CELL, *ON_CARD, "--batch", 3, "--json"))
    assert virtual.pop("engine") == "virtual" and simulated.pop("engine") == "simulated"
    assert virtual == simulated


def test_what_the_card_alone_takes_is_workspace(bench, card):
    simulated = explained(bench("explain", *CELL, "--gpu", "RTX 3080", "--batch", 3, "--json"))
    card.kept_bytes = 2**20
    virtual = explained(bench("explain", *CELL, *ON_CARD, "--batch", 3, "--json"))
    more = {
        name: virtual["categories"][name] - size
        for name, size in simulated["categories"].items()
        if virtual["categories"][name] != size
    }
    assert more["workspace"] == 2**20 and set(more) <= {"workspace", "free", "fragmentation"}
    assert sum(virtual["categories"].values()) == virtual["card"]["total_bytes"]


STEP = """
import torch

def make_step(batch, device):
    weight = torch.nn.Parameter(torch.rand(2**20, device=device))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)

    def step():
        optimizer.zero_grad()
        (torch.rand(batch, 2**20, device=device) * weight).sum().backward()
        optimizer.step()

    return step
"""


def test_a_step_of_ones_own_is_explained_on_the_card(bench, card, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(STEP)
    monkeypatch.chdir(tmp_path)
    step = ("explain", "train.py:make_step")
    card.more = 0
    simulated = explained(bench(*step, "--gpu", "RTX 3080", "--batch", 7, "--json"))
    virtual = explained(bench(*step, *ON_CARD, "--batch", 7, "--json"))
    assert virtual.pop("engine") == "virtual" and simulated.pop("engine") == "simulated"
    assert virtual == simulated
    card.kept_bytes = 2**20
    more = explained(bench(*step, *ON_CARD, "--batch", 7, "--json"))
    assert more["categories"]["workspace"] == simulated["categories"]["workspace"] + 2**20
    assert explained(bench(*step, *ON_CARD, "--json"))["batch"] == max(trial.batch for trial in card.trials) - 1


def test_the_largest_batch_is_the_cards(bench, card):
    told = explained(bench("explain", *CELL, *ON_CARD, "--json"))
    assert told["fits"] and told["batch"] == max(trial.batch for trial in card.trials) - 1
    assert card.trials[-1].with_events


def test_where_memory_runs_out_on_the_card(bench, card):
    result = bench("explain", *CELL, *ON_CARD, "--batch", 60000)
    assert result.returncode == 0
    last = result.stderr.splitlines()[-1]
    assert last.startswith("bench: batch 60000 does not fit: ") and "models/" in last


def test_a_step_that_fails_on_the_card_is_one_sentence(bench, card):
    card.last = 0
    result = bench("explain", *CELL, *ON_CARD, "--batch", 2)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "bench: the probe of batch 2 under RTX 3080 failed: AcceleratorError: CUDA error: device lost\n"
    )
