"""What kernels take at their limits and in forms that few programs use, as the virtual card answered."""

import json
import lzma
import sys
from pathlib import Path

import pytest

from bench.memory import CARDS
from bench.memory.recording import batches

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import asked_calls, kernel_limits, sequence_calls
from fidelity.calls import agrees, recorded, rounded

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
KINDS = {"limits": kernel_limits, "asked": asked_calls, "sequences": sequence_calls}
ANSWERS = {kind: json.loads(lzma.decompress((FOLDER / f"{kind}-2.14.json.xz").read_bytes())) for kind in KINDS}
GROUPS = [(kind, group) for kind, calls in KINDS.items() for group in list(calls.GROUPS)[1:]]


@pytest.mark.parametrize(("kind", "least"), [("limits", 600), ("asked", 130), ("sequences", 130)])
def test_every_call_was_answered(kind, least):
    calls = KINDS[kind].CALLS
    assert {card: len(answers) for card, answers in ANSWERS[kind].items()} == {"RTX 3080": len(calls)}
    assert len(calls) > least


@pytest.mark.filterwarnings("ignore::UserWarning")  # of selections by value, and of variances of nothing
@pytest.mark.parametrize(("kind", "group"), GROUPS)
def test_every_call_takes_what_it_takes_on_the_virtual_card(kind, group, monkeypatch):
    monkeypatch.setattr(batches, "installed_release", lambda: (2, 14))
    calls, groups = KINDS[kind].CALLS, KINDS[kind].GROUPS
    first = calls.index(groups[group][0])
    (answers,) = (answers[first : first + len(groups[group])] for answers in ANSWERS[kind].values())
    before = next(iter(groups.values()))
    told = recorded([*before, *groups[group]], CARDS["RTX 3080"])[len(before) :]
    if kind == "sequences":
        told, answers = (list(map(rounded, each)) for each in (told, answers))
    found = zip(groups[group], told, answers, strict=True)
    assert [each for each in found if not agrees(*each[1:])] == []
