"""Single calls on several virtual cards (tests/fidelity/reductions.py, kernels.py): what is recorded otherwise."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

from bench.memory import CARDS, record
from bench.memory.measuring.cuda import Trial
from bench.memory.trace import Workspace
from bench.units import GiB
from bench.virtual import VirtualDevice
from bench.virtual.comparison import keyed
from tests.fidelity import kernels, reductions
from tests.fidelity.calls import AllCalls, by_call

CALLS = {"reductions": reductions.CALLS, "kernels": kernels.CALLS}
NAMES = ("RTX 3080", "H200", "T4")
TOTAL_BYTES = 10_000 * GiB  # no call is too large: nothing is stored


def make(name: str, path: Path) -> dict[str, int]:
    """Run every call on every card, write the file; how many calls there were."""
    calls = AllCalls(CALLS[name])
    trace = record(calls, steps=2)
    answers = {}
    for card_name in NAMES:
        card = replace(CARDS[card_name], total_bytes=TOTAL_BYTES)
        trial = Trial(calls, 1, 1, card.usable_bytes, 0, "", True, False, card.cublas_workspace_config, True)
        seen = VirtualDevice(card).measure(trial)
        answers[card_name] = by_call(keyed(seen.events))
        recorded = by_call(trace.on(card).at(1, Workspace.LOW))[: len(calls.calls)]
        wrong = [
            (call, told, found)
            for call, told, found in zip(calls.calls, recorded, answers[card_name], strict=True)
            if told != found
        ]
        print(f"  {card_name}: {len(calls.calls) - len(wrong)} of {len(calls.calls)} recorded as they are", flush=True)
        for call, told, found in wrong:
            print("   ", call, "recorded", told, "on the card", found)
    path.write_bytes(lzma.compress(json.dumps(answers, separators=(",", ":")).encode(), preset=9))
    return {"calls": len(calls.calls) * len(NAMES)}
