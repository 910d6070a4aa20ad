"""The command, as a user types it; and one thread: tests work on tiny tensors, where more cost more than they bring."""

import signal
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from bench.cli import main

torch.set_num_threads(1)


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run `bench ...` in an empty folder: its exit code and what it printed.

    What the command takes for its own process is put back after each test: signals, and settings of libraries.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def bench(*arguments):
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=printed.out, stderr=printed.err)

    yield bench
    for number, handler in handlers.items():
        signal.signal(number, handler)
