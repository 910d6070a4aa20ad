"""The command line's way in and out. Nothing is imported before signals are heard; what a verb needs comes with it."""

from __future__ import annotations

import sys
from typing import NoReturn

from bench.stopping import Stopping


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    stopping = Stopping()
    try:
        stopping.listen()
        from bench.outcome import outcome

        code = outcome(sys.argv[1:], stopping)
        stopping.ignore()
    except KeyboardInterrupt:  # while another outcome was being told
        code = stopping.exit_code
        print(f"bench: {stopping.sentence}", file=sys.stderr)
    if stopping.signal:
        stopping.end()
    sys.exit(code)
