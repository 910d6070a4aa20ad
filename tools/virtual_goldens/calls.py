"""Make tests/golden/virtual/{reductions,kernels}-X.Y.json.xz: single calls on several virtual cards.

    python -m tools.virtual_goldens.calls     # with the python of an environment that has a CUDA build of PyTorch

The calls are those of tests/fidelity/reductions.py and kernels.py. Prints where the recording differs. Needs no GPU.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import replace

import torch

from bench.memory import CARDS, record
from bench.memory.measuring.cuda import Trial
from bench.memory.trace import Workspace
from bench.units import GiB
from bench.virtual import VirtualDevice
from bench.virtual.comparison import keyed
from tests.fidelity import kernels, reductions
from tests.fidelity.calls import AllCalls, by_call
from tools.virtual_goldens.__main__ import FOLDER

NAMES = ("RTX 3080", "H200", "T4")
TOTAL_BYTES = 10_000 * GiB  # no call is too large: nothing is stored


def main() -> None:
    """Write both files."""
    make("reductions", AllCalls(reductions.CALLS))
    make("kernels", AllCalls(kernels.CALLS))


def make(file_name: str, calls: AllCalls) -> None:
    """Run every call on every card, write the file."""
    trace = record(calls, steps=2)
    answers = {}
    for name in NAMES:
        card = replace(CARDS[name], total_bytes=TOTAL_BYTES)
        trial = Trial(calls, 1, 1, card.usable_bytes, 0, "", True, False, card.cublas_workspace_config, True)
        seen = VirtualDevice(card).measure(trial)
        answers[name] = by_call(keyed(seen.events))
        recorded = by_call(trace.on(card).at(1, Workspace.LOW))[: len(calls.calls)]
        wrong = [
            (call, told, found)
            for call, told, found in zip(calls.calls, recorded, answers[name], strict=True)
            if told != found
        ]
        print(f"{name}: {len(calls.calls) - len(wrong)} of {len(calls.calls)} equal", flush=True)
        for call, told, found in wrong:
            print(" ", call, "recorded", told, "on the card", found)
    release = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"{file_name}-{release}.json.xz"
    path.write_bytes(lzma.compress(json.dumps(answers, separators=(",", ":")).encode(), preset=9))
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
