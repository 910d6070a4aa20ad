"""A step of the user's on several cards: recorded once where all run the same kernels, else once for each kind."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from bench.memory import CARDS
from bench.memory.by_card import StepByCard
from bench.memory.checked import CheckedStep
from bench.memory.recording.on_cuda import on_cuda

ORDINARY, HOPPER, TURING = CARDS["RTX 3080"], CARDS["H200"], CARDS["T4"]


class Counted:
    """A make_step that counts how often a step is made."""

    def __init__(self, step_of):
        self.made = 0
        self._step_of = step_of

    def __call__(self, batch, device):
        self.made += 1
        return lambda: self._step_of(torch.zeros(batch, 2, 16, 64, device=device, dtype=torch.float16))


def test_a_step_without_attention_is_recorded_once_for_all_cards():
    make_step = Counted(lambda x: x + x)
    step = StepByCard(make_step)
    made = make_step.made
    assert not step.has_attention
    assert isinstance(step.on(None), CheckedStep)
    assert all(step.on(card) is step.on(None) for card in (ORDINARY, HOPPER, TURING))
    assert make_step.made == made


def test_a_step_with_attention_is_recorded_once_for_each_kind_of_card():
    make_step = Counted(lambda x: scaled_dot_product_attention(x, x, x))
    step = StepByCard(make_step)
    assert step.has_attention
    assert step.on(None) is step.on(ORDINARY)
    assert step.on(CARDS["A100 40GB"]) is step.on(CARDS["A100 80GB"]) is not step.on(None)
    assert step.on(TURING) is step.on(TURING) is not step.on(None)
    assert step.has_attention
    made = make_step.made
    with on_cuda(TURING):
        assert step.on(TURING).trace.at(3) != step.on(None).trace.at(3)
    assert make_step.made == made


def test_the_card_that_is_asked_about_first_is_recorded_first():
    make_step = Counted(lambda x: scaled_dot_product_attention(x, x, x))
    with on_cuda(TURING):
        step = StepByCard(make_step, first=TURING)
        made = make_step.made
        assert step.on(TURING).trace.at(3) == StepByCard(make_step).on(TURING).trace.at(3)
    assert make_step.made == 3 * made  # that card's, an ordinary one's, and again that card's


@pytest.mark.parametrize("steps", [1, 0])
def test_less_than_two_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}, expected at least 2"):
        StepByCard(Counted(lambda x: x + x), steps)
