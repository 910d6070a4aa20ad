"""Run every command that docs/ANY-STEP.md shows, and write down what it says: python -m tools.any_step [FILE].

A transcript is a fenced block whose first line begins with "$ bench". Commands run in docs/examples with the installed
PyTorch; what they print on stdout and on stderr follows, and an exit code that is not 0.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

DOCUMENT = Path("docs/ANY-STEP.md")
FOLDER = Path("docs/examples")
_TRANSCRIPT = re.compile(r"```\n\$ (bench [^\n]+)\n.*?```", re.DOTALL)


def renewed(text: str, said: Callable[[str], str]) -> str:
    """A document whose transcripts show what their commands say now."""
    return _TRANSCRIPT.sub(lambda found: f"```\n$ {found[1]}\n{said(found[1]).strip()}\n```", text)


def said(command: str) -> str:
    """What a command prints."""
    arguments = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(arguments, cwd=FOLDER, capture_output=True, text=True, check=False)
    code = f"\n(exit code {done.returncode})" if done.returncode else ""
    return done.stdout + done.stderr + code


def main() -> None:
    """Renew the document."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT
    path.write_text(renewed(path.read_text(encoding="utf-8"), said), encoding="utf-8")


if __name__ == "__main__":
    main()
