"""Which kernel attention takes, against the choices of PyTorch's own code on virtual cards of six kinds."""

import json
import sys
from pathlib import Path

import pytest

from bench.memory import CARDS
from bench.memory.recording import attention

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import attention_choices as choices

KEPT = json.loads(choices.ANSWERS.read_text())
# What PyTorch 2.14 hands to a fused kernel, and is recorded as it was before: inputs of three dimensions; and on
# Hopper, where cuDNN is not asked whether heads, or widths, of keys and values agree.
NOT_FOLLOWED = {
    "T4": [(4, 16, 64)],
    "H200": [(2, 2, 16, 64), (2, 4, 16, 64), (4, 16, 64), (2, 4, 16, 32)],
}


def test_every_kind_of_card_has_answered_every_case():
    assert set(KEPT) == set(choices.CARDS)
    assert {len(answers) for answers in KEPT.values()} == {len(choices.CASES)}


@pytest.mark.parametrize("name", choices.CARDS)
def test_the_kernel_is_the_one_that_pytorch_takes(monkeypatch, name):
    monkeypatch.setattr(attention, "installed_release", lambda: (2, 14))
    capability = CARDS[name].compute_capability
    others = []
    for case, answer in zip(choices.CASES, KEPT[name], strict=True):
        query, key, value, mask = case.inputs("meta")
        told = attention.chosen(capability, query, key, value, mask, case.dropout, case.is_causal, case.grouped)
        if told != choices.KERNELS[int(answer)]:
            assert told == "math"
            others.append(case.key)
    assert others == NOT_FOLLOWED.get(name, NOT_FOLLOWED["T4"])
