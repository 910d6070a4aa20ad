"""What kernels take at their limits and in forms that few programs use, as the virtual card answered."""

import json
import lzma
import sys
from pathlib import Path

import pytest

from bench.memory import CARDS
from bench.memory.recording import batches

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.calls import agrees, recorded
from fidelity.kernel_limits import CALLS, GROUPS

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "limits-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))


def test_every_call_was_answered():
    assert {card: len(answers) for card, answers in ANSWERS.items()} == {"RTX 3080": len(CALLS)}
    assert len(CALLS) > 600


@pytest.mark.filterwarnings("ignore::UserWarning")  # of selections by value, and of variances of nothing
@pytest.mark.parametrize("group", list(GROUPS)[1:])
def test_every_call_takes_what_it_takes_on_the_virtual_card(group, monkeypatch):
    monkeypatch.setattr(batches, "installed_release", lambda: (2, 14))
    first = CALLS.index(GROUPS[group][0])
    (answers,) = (answers[first : first + len(GROUPS[group])] for answers in ANSWERS.values())
    before = next(iter(GROUPS.values()))
    told = recorded([*before, *GROUPS[group]], CARDS["RTX 3080"])[len(before) :]
    found = zip(GROUPS[group], told, answers, strict=True)
    assert [each for each in found if not agrees(*each[1:])] == []
