"""What attention takes on cards of six kinds, at the limits of its kernels, as the virtual cards answered."""

import json
import lzma
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS
from bench.memory.recording import attention, attention_choice
from bench.memory.recording.composites import Give, Take
from bench.memory.simulated import installed_release

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import attention_calls
from fidelity.attention_calls import CALLS
from fidelity.calls import agrees, recorded
from fidelity.kernels import Call

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "attention-calls-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))


def test_every_card_has_answered_every_call():
    assert {card: len(answers) for card, answers in ANSWERS.items()} == dict.fromkeys(attention_calls.CARDS, len(CALLS))


@pytest.mark.parametrize("name", attention_calls.CARDS)
def test_every_call_takes_what_it_takes_on_the_virtual_card(name, monkeypatch):
    before = installed_release() < (2, 14)  # without data, its gradients of grouped heads have other shapes
    kept = [place for place, call in enumerate(CALLS) if not (before and "enable_gqa=True" in call)]
    for module in (attention, attention_choice):
        monkeypatch.setattr(module, "installed_release", lambda: (2, 14))
    calls = [CALLS[place] for place in kept]
    told, answers = recorded(calls, CARDS[name]), [ANSWERS[name][place] for place in kept]
    found = zip(calls, told, answers, strict=True)
    assert [each for each in found if not agrees(*each[1:])] == []


# Forward, and backward with a gradient.
@pytest.mark.parametrize(
    ("card", "taken"),
    [
        ("RTX 3080", ([32768, 1024, 16, 8], [*[32768] * 5, 2048, 131072])),
        ("H100 SXM", ([8, 8, 32768, 1024, 256], [*[32768] * 3, 66816])),
        ("T4", ([8, 8, 32768, 1024], [*[32768] * 3, 1024, 65600])),
    ],
)
def test_inputs_of_three_dimensions_take_what_virtual_cards_answered(monkeypatch, card, taken):
    for module in (attention, attention_choice):
        monkeypatch.setattr(module, "installed_release", lambda: (2, 14))
    made = "".join(f"{name} = numbers(4, 64, 64, dtype=torch.float16).requires_grad_()\n" for name in "qkv")
    call = "torch.nn.functional.scaled_dot_product_attention(q, k, v)"
    backward = f"y = {call}\ng = torch.ones_like(y).view(4, 64, 64); torch.autograd.grad(y, [q, k, v], g)"
    told = recorded([Call(f"{made[:-1]}; {call}"), Call(made + backward)], CARDS[card])
    assert tuple([event for event in events if event > 0] for events in told) == taken


@pytest.mark.parametrize(
    ("op", "card", "dtype"),
    [
        (attention.FLASH_BACKWARD, "RTX 3080", torch.float16),
        (attention.EFFICIENT_BACKWARD, "T4", torch.float16),
        (attention.EFFICIENT_BACKWARD, "RTX 3080", torch.float32),
        (attention.CUDNN_BACKWARD, "H100 SXM", torch.float16),
    ],
)
@pytest.mark.parametrize("of_keys", [1, 2])
def test_gradients_of_grouped_heads_take_room_for_each_head(op, card, dtype, of_keys):
    """Of every release, as the rule has them; the card was asked by the call with these shapes."""
    query, gradient = (torch.empty(2, 4, 64, 64, dtype=dtype, device="meta") for _ in range(2))
    key, value = (torch.empty(2, of_keys, 64, 64, dtype=dtype, device="meta") for _ in range(2))
    outputs = [torch.empty_like(each) for each in (query, key, value)]
    with attention.attention_of(attention.Kernels.of(CARDS[card])):
        items = attention.allocations(op.default, [gradient, query, key, value, gradient, *[0.0] * 5], outputs)
    taken = [item for item in items if not isinstance(item, Give)]
    sizes = [item.size_bytes if isinstance(item, Take) else item.numel() * item.element_size() for item in taken]
    takes, gives = ([item.number for item in items if isinstance(item, kind)] for kind in (Take, Give))
    assert sorted(takes) == sorted(gives) == sorted(set(takes))
    shapes = [f"numbers(2, {heads}, 64, 64, dtype={dtype})" for heads in (4, of_keys)]
    (place,) = (
        place
        for place, call in enumerate(CALLS)
        if call.startswith(f"q = {shapes[0]}\nk = {shapes[1]}\n") and "None, 0.0, False" in call and "autograd" in call
        if "transpose" not in call
    )
    assert sizes == [event for event in ANSWERS[card][place] if event > 0]


@pytest.mark.parametrize(("capability", "like"), [((8, 0), "A100 40GB"), ((8, 7), "A100 40GB"), ((8, 6), "RTX 3080")])
def test_cards_of_8_7_have_the_shared_memory_of_8_0(capability, like):
    """As PyTorch's kernels for compute capability 8.7 are built; no card in the list has it."""
    card = replace(CARDS[like], compute_capability=capability)
    made = "".join(f"{name} = numbers(2, 4, 64, 128, dtype=torch.float32)\n" for name in "qkv")
    place = next(place for place, call in enumerate(CALLS) if call.startswith(made) and "autograd" in call)
    (told,) = recorded([CALLS[place]], card)
    assert agrees(told, ANSWERS[like][place])
    assert ANSWERS["RTX 3080"][place] != ANSWERS["A100 40GB"][place]
