"""The command in a process of its own, and signals sent to it at a moment that is no matter of luck."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

COMMAND = [sys.executable, "-m", "bench"]
IMPORT = "import time:"


def signals_as_in_a_terminal():
    """Whatever started the tests may ignore interrupts, and its children with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def stopped(arguments, cwd, *, imported=None, seconds=0.0, number=signal.SIGINT, times=1, env=None):
    """Run `bench ...` and signal its whole process group, as a terminal does, `seconds` after a module is imported.

    Python itself tells of every import on stderr, which is left out of what comes back.
    """
    command = [sys.executable, "-X", "importtime", "-m", "bench", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=signals_as_in_a_terminal,
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(IMPORT) and line.rpartition("|")[2].strip() == imported:
            break
    else:
        raise AssertionError(f"never imported {imported}: {''.join(said)[-2000:]}")
    time.sleep(seconds)
    for _ in range(times):
        os.killpg(process.pid, number)
    stdout, rest = process.communicate(timeout=60)
    ours = [line for line in (*said, *rest.splitlines(keepends=True)) if not line.startswith(IMPORT)]
    return SimpleNamespace(
        returncode=process.returncode, stdout=stdout, stderr="".join(ours), survivors=survivors(process.pid)
    )


def survivors(group):
    """Whether anything of a process group still runs; workers look every 0.2 s whether their parent does."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True
