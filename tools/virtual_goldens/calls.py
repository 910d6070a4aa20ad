"""Single calls on several virtual cards (calls of tests/fidelity, CALLS below): what is recorded otherwise."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.memory import CARDS
from bench.memory.measuring.cuda import Trial
from bench.memory.recording.values import reads_noted
from bench.units import GiB
from bench.virtual import VirtualDevice
from tests.fidelity import asked_calls, attention_calls, kernel_limits, kernels, reductions, sequence_calls
from tests.fidelity.calls import AllCalls, agrees, by_call, recorded, rounded, settled

NAMES = ("RTX 3080", "H200", "T4")
CALLS = {
    "reductions": (reductions.CALLS, NAMES),
    "kernels": (kernels.CALLS, NAMES),
    "limits": (kernel_limits.CALLS, NAMES[:1]),
    "asked": (asked_calls.CALLS, NAMES[:1]),
    "sequences": (sequence_calls.CALLS, NAMES[:1]),
    "attention-calls": (attention_calls.CALLS, attention_calls.CARDS),
}
TOTAL_BYTES = 10_000 * GiB  # no call is too large: nothing is stored

Answers = Mapping[str, Sequence[Sequence[int]]]
"""Of each card, what each call allocated and freed."""


def make(name: str, path: Path) -> dict[str, int]:
    """Run every call on every card, write the file if it is not there with the same; how many calls there were.

    Of what the calls read a card is told as much as the recording knows.
    """
    all_, names = CALLS[name]
    calls = AllCalls(all_)
    answers = {}
    for card_name in names:
        card = replace(CARDS[card_name], total_bytes=TOTAL_BYTES)
        with reads_noted() as reads:
            told = recorded(all_, card)
        limits = card.usable_bytes, 0, "", True, False, card.cublas_workspace_config
        trial = Trial(calls, 1, 1, *limits, with_events=True, reads=tuple(reads))
        seen = VirtualDevice(card).measure(trial)
        answers[card_name] = by_call(seen.events)
        wrong = [
            (call, ours, found)
            for call, ours, found in zip(calls.calls, told, answers[card_name], strict=True)
            if not agrees(*map(rounded if name == "sequences" else list, (ours, found)))
        ]
        print(f"  {card_name}: {len(all_) - len(wrong)} of {len(all_)} recorded as they are", flush=True)
        for call, ours, found in wrong:
            print("   ", call, "recorded", ours, "on the card", found)
    if not (path.exists() and same(json.loads(lzma.decompress(path.read_bytes())), answers)):
        path.write_bytes(lzma.compress(json.dumps(answers, separators=(",", ":")).encode(), preset=9))
    return {"calls": len(all_) * len(names)}


def same(one: Answers, other: Answers) -> bool:
    """Whether both tell the same of every call on every card, whatever a gradient's thread let go of last."""
    one_settled, other_settled = (
        {card: list(map(settled, of_card)) for card, of_card in answers.items()} for answers in (one, other)
    )
    return one_settled == other_settled
