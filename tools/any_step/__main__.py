"""Run what docs/ANY-STEP.md shows, and write down what it says: python -m tools.any_step [--steps] [FILE].

A transcript is a fenced block whose first line begins with "$ bench" or "$ python -m bench". Commands run in
docs/examples with the installed PyTorch; what they print on stdout and on stderr follows, and an exit code that is
not 0. With --steps, the table of real steps is made anew instead, which takes an hour: between its two marks, of those
whose packages are installed.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.any_step.document import DOCUMENT, renew

FOLDER = Path("docs/examples")
_TRANSCRIPT = re.compile(r"```\n\$ ((?:python -m )?bench[^\n]+)\n.*?```", re.DOTALL)


def renewed(text: str, said: Callable[[str], str]) -> str:
    """A document whose transcripts show what their commands say now."""
    return _TRANSCRIPT.sub(lambda found: f"```\n$ {found[1]}\n{said(found[1]).strip()}\n```", text)


def said(command: str) -> str:
    """What a command prints."""
    arguments = [sys.executable, "-m", *shlex.split(command.removeprefix("python -m "))]
    done = subprocess.run(arguments, cwd=FOLDER, capture_output=True, text=True, check=False)
    code = f"\n(exit code {done.returncode})" if done.returncode else ""
    return done.stdout + done.stderr + code


def main() -> None:
    """Renew the document."""
    arguments = [each for each in sys.argv[1:] if each != "--steps"]
    path = Path(arguments[0]) if arguments else DOCUMENT
    if "--steps" in sys.argv:
        from tools.any_step import real_steps

        found = []
        for step in real_steps.names():
            with contextlib.suppress(ModuleNotFoundError):
                found.append(real_steps.asked(step))
        renew(path, "real steps", real_steps.table(found))
        return
    path.write_text(renewed(path.read_text(encoding="utf-8"), said), encoding="utf-8")


if __name__ == "__main__":
    main()
