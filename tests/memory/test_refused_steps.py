"""Autocast outside of a card's recording is refused where it would have an effect, and left as it was."""

import pytest
import torch

from bench.memory.recording.recorder import events_of
from bench.memory.recording.refusals import NotRecordableError, autocast_refused, without_data


def step_under(name, enabled):
    dtype = torch.float16 if name == "cuda" else torch.bfloat16

    def make_step(batch, device):
        def step():
            with torch.autocast(name, dtype, enabled):
                torch.ones(4, 4, device=device)

        return step

    return make_step


@pytest.mark.parametrize("knows_a_gpu", [False, True])
def test_autocast_of_a_card_is_refused(monkeypatch, knows_a_gpu):
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: not knows_a_gpu)
    enter = torch.autocast.__enter__
    with pytest.raises(NotRecordableError, match=r"torch.autocast has no effect on tensors without data"):
        events_of(step_under("cuda", True), 2, 1)
    assert torch.autocast.__enter__ is enter


@pytest.mark.parametrize("context", [("cuda", False), ("cpu", True), ("cpu", False)])
def test_autocast_that_has_no_effect_on_a_card_is_not(context):
    assert len(events_of(step_under(*context), 2, 1)) > 0


def test_autocast_is_pytorchs_again_after_a_refusal():
    enter = torch.autocast.__enter__
    with pytest.raises(ZeroDivisionError), autocast_refused():
        assert torch.autocast.__enter__ is not enter
        raise ZeroDivisionError
    assert torch.autocast.__enter__ is enter


def test_an_operation_whose_result_nobody_can_size_is_named():
    error = NotImplementedError("aten::histc: attempted to run this operator with Meta tensors, but there was no fake")
    assert "how large the result of aten::histc is, nobody knows without data" in without_data(error)
    assert "tensors without data cannot do: other" in without_data(RuntimeError("other"))
