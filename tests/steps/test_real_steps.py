"""Steps around networks of other people's packages: both engines answer, and say the same.

Slow: each is a process that imports its package. What is not installed is skipped; `pip install 'bench-inverse[steps]'`
has all of it.
"""

import pytest
import torch

from tools.any_step import real_steps
from tools.any_step.real_steps import KNOWN, MOST, Answered, Found, asked, names, short, table

NAMES = names()

# Refused in the recording, and what is said.
REFUSED: dict[str, str] = {}

# Refused on the virtual card, and what is said.
NOT_ON_THE_CARD: dict[str, str] = {}


def test_there_are_steps_of_many_packages():
    assert len(NAMES) >= 40
    assert len({name.split(":")[0] for name in NAMES}) >= 10
    assert not {*REFUSED, *NOT_ON_THE_CARD, *KNOWN} - set(map(short, NAMES))


def test_the_table_has_peaks_refusals_and_what_differs():
    def found(step, ours, theirs):
        return Found(f"tests.steps.with_{step}", 5, ours, theirs)

    same, more = Answered(7, 1000, 50 * 2**20), Answered(5, 990, 40 * 2**20)
    rows = [found("a:b", same, same), found("torch:packed_gru", same, more), found("c:d", Answered(refusal="no"), more)]
    text = table(rows)
    assert text.startswith("2 of 3 steps are answered by recording; of 2 that both answer, 1 peaks are within 1%.")
    assert "| a:b | 7 | 7 | 50 | 50 | +0.00% |" in text
    assert "| torch:packed_gru | 7 | 5 | 50 | 40 | +25.00% |" in text
    assert "| c:d | refused | 5 |  | 40 |  |" in text
    assert "* c:d: recording: no" in text
    assert f"* torch:packed_gru: {KNOWN['torch:packed_gru']}" in text
    assert "* a:b" not in text


def test_a_step_that_takes_too_long_is_a_row_like_any_other(monkeypatch):
    monkeypatch.setattr(real_steps, "SECONDS", 0.01)
    found = real_steps.asked(NAMES[0])
    assert f"| {short(NAMES[0])} | refused | refused |" in table([found])
    assert "no answer within 0.01 s" in table([found])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_engines_say_the_same(name):
    try:
        found = asked(name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    known = short(name)
    if known in REFUSED:
        assert REFUSED[known] in found.recorded.refusal
        return
    assert found.recorded.refusal == ""
    assert found.recorded.batch > 0
    if not torch.version.cuda:
        return
    if known in NOT_ON_THE_CARD:
        assert NOT_ON_THE_CARD[known] in found.virtual.refusal
        return
    assert found.virtual.refusal == ""
    if known not in KNOWN:
        assert max(map(abs, found.differences)) <= MOST
