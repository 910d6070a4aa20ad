"""The table of other tools: it asks about steps that there are, and says by how much each is off the card."""

import ast
from pathlib import Path

import pytest

from tools.any_step import peers

STEPS = ast.parse(Path(__file__).with_name("compared.py").read_text()).body


def test_each_network_has_its_step():
    (networks,) = (each.value for each in STEPS if isinstance(each, ast.Assign) and each.targets[0].id == "NETWORKS")
    steps = {each.name for each in STEPS if isinstance(each, ast.FunctionDef)}
    assert {ast.literal_eval(key) for key in networks.keys} == {name for name in steps if not name.startswith("_")}


def test_what_is_said_is_held_against_the_card(monkeypatch):
    monkeypatch.setattr(peers, "by_card", lambda step: 1000 * 2**20)
    monkeypatch.setattr(peers, "ASKED", {"one": lambda step: 1250 * 2**20, "another": lambda step: 999 * 2**20})
    row = peers.row("resnet50")
    assert row == ["resnet50", "1,000", "1,250 (+25.0%)", "999 (-0.1%)"]
    lines = peers.table([row], "torch 1.0.").splitlines()
    assert lines[0] == "torch 1.0."
    assert lines[2].endswith("| card, reserved MiB | one | another |")
    assert len({line.count("|") for line in lines[2:]}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", ["resnet50", "vit_b_16"])
def test_the_recording_says_what_the_card_reserves(step):
    for package in ("timm", "torchvision", "segmentation_models_pytorch"):
        pytest.importorskip(package)
    torch = pytest.importorskip("torch")
    if not torch.version.cuda:
        pytest.skip("needs a CUDA build of PyTorch")
    assert peers.by_recording(step) == peers.by_card(step)
