"""Which kernel attention takes, against the choices of PyTorch's own code on virtual cards of six kinds."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS
from bench.memory.recording import attention_choice

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import attention_choices as choices

KEPT = json.loads(choices.ANSWERS.read_text())
# Keys that are as wide as no query. On Hopper PyTorch hands them to cuDNN, which refuses them; a product of matrices,
# as the recording has it, is refused too.
REFUSED_BY_ALL = [(2, 4, 16, 32)]


def test_every_kind_of_card_has_answered_every_case():
    assert set(KEPT) == set(choices.CARDS)
    assert {len(answers) for answers in KEPT.values()} == {len(choices.CASES)}


@pytest.mark.parametrize(
    ("capability", "kernel"),
    [
        *(((major, minor), "efficient") for major, minor in ((6, 0), (7, 0), (7, 5), (12, 2), (13, 0))),
        *((each, "flash") for each in ((8, 0), (8, 6), (8, 7), (8, 9), (11, 0), (12, 0), (12, 1))),
        *((each, "cudnn") for each in ((9, 0), (10, 0), (10, 3))),
    ],
)
def test_kernels_are_for_compute_capabilities(capability, kernel):
    """As check_sm_version and check_cudnn_hardware_support have them, of cards that no virtual one stands for too."""
    query, key, value, mask = choices.Case().inputs("meta")
    assert attention_choice.chosen(capability, query, key, value, mask, 0.0, False, False) == kernel


def test_inputs_that_disagree_are_multiplied():
    of_four, of_three = (torch.empty(4, 16, 64, device="meta").expand(*more, 4, 16, 64) for more in ((2,), ()))
    of_half = of_four.to(torch.float16)
    for others in ((of_four, of_three), (of_three, of_four), (of_four, of_half), (of_half, of_four)):
        assert attention_choice.chosen((8, 6), of_four, *others, None, 0.0, False, False) == "math"


@pytest.mark.parametrize("mask", [None, (16,), (16, 16), (4, 16, 16), (1, 4, 16, 16)])
@pytest.mark.parametrize(("release", "kernel"), [((2, 13), "math"), ((2, 14), "cudnn")])
def test_inputs_of_three_dimensions_are_a_batch_of_one_since_2_14(monkeypatch, release, kernel, mask):
    """And so are masks of any, which cuDNN takes of two or four."""
    monkeypatch.setattr(attention_choice, "installed_release", lambda: release)
    heads = torch.empty(4, 16, 64, dtype=torch.float16, device="meta")
    added = None if mask is None else torch.empty(mask, dtype=torch.float16, device="meta")
    assert attention_choice.chosen((9, 0), heads, heads, heads, added, 0.0, False, False) == kernel


@pytest.mark.parametrize(("release", "kernel"), [((2, 13), "math"), ((2, 14), "flash")])
def test_one_head_of_keys_is_for_all_queries_since_2_14(monkeypatch, release, kernel):
    monkeypatch.setattr(attention_choice, "installed_release", lambda: release)
    query, key = (torch.empty(2, heads, 16, 64, dtype=torch.float16, device="meta") for heads in (4, 1))
    assert attention_choice.chosen((8, 6), query, key, key, None, 0.0, False, False) == kernel


@pytest.mark.parametrize(("release", "kernel"), [((2, 13), "math"), ((2, 14), "efficient")])
def test_memory_efficient_attention_knows_grouped_heads_since_2_14(monkeypatch, release, kernel):
    monkeypatch.setattr(attention_choice, "installed_release", lambda: release)
    query, key = (torch.empty(2, heads, 16, 64, device="meta") for heads in (4, 2))
    assert attention_choice.chosen((8, 6), query, key, key, None, 0.0, False, True) == kernel


@pytest.mark.parametrize("name", choices.CARDS)
def test_the_kernel_is_the_one_that_pytorch_takes(monkeypatch, name):
    monkeypatch.setattr(attention_choice, "installed_release", lambda: (2, 14))
    capability = CARDS[name].compute_capability
    others = []
    for case, answer in zip(choices.CASES, KEPT[name], strict=True):
        query, key, value, mask = case.inputs("meta")
        told = attention_choice.chosen(capability, query, key, value, mask, case.dropout, case.is_causal, case.grouped)
        if told != choices.KERNELS[int(answer)]:
            assert told == "math"
            others.append(case.key)
    assert others == (REFUSED_BY_ALL if capability[0] == 9 else [])
