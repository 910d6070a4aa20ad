"""Somebody's script on a card that is not there: python -m bench.virtual "RTX 3080" train.py --its --options.

The script runs unchanged, with device="cuda". Started again with the virtual card preloaded, this tells it the card.
"""

from __future__ import annotations

import os
import runpy
import sys

from bench import streams
from bench.memory.gpus import card_named
from bench.virtual.figures import NoVirtualCardError, figures
from bench.virtual.library import environment
from bench.virtual.worker import tell

_PRELOADED = "BENCH_VIRTUAL_CARD"


def main() -> None:
    """Run the script that the command line names; exit code 2 if there is none, or no such card."""
    if len(sys.argv) < 3:
        _stop("expected a card and a script, such as: python -m bench.virtual 'RTX 3080' train.py")
    if not os.path.isfile(sys.argv[2]):
        _stop(f"there is no file {sys.argv[2]} to run")
    try:
        told = figures(card_named(sys.argv[1]))
        if _PRELOADED not in os.environ:
            prepared = os.environ | environment() | {_PRELOADED: "1"}
            os.execve(sys.executable, [sys.executable, "-m", "bench.virtual", *sys.argv[1:]], prepared)
    except (ValueError, NoVirtualCardError) as error:
        _stop(str(error))
    for name in (_PRELOADED, "LD_PRELOAD", "CUDA_VISIBLE_DEVICES"):
        os.environ.pop(name, None)
    tell(told)
    sys.argv = sys.argv[2:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _stop(sentence: str) -> None:
    streams.say(sentence)
    sys.exit(2)


if __name__ == "__main__":
    main()
