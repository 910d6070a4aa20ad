"""The command, as a user types it; and one thread: tests work on tiny tensors, where more cost more than they bring."""

import gc
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from in_process import exit_code_of

torch.set_num_threads(1)
if os.environ.get("BENCH_CUDA_PYTHON"):  # tests call it from other folders
    os.environ["BENCH_CUDA_PYTHON"] = str(Path(os.environ["BENCH_CUDA_PYTHON"]).absolute())


def pytest_collection_finish():
    """What is there now stays: Python's collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _as_it_was():
    """Put back what is set for a process: threads by a command, checks of distributions by PyTorch's compiler.

    More threads than free cores can be a hundred times slower.
    """
    yield
    torch.set_num_threads(1)
    if "torch.distributions" in sys.modules:
        torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run `bench ...` in an empty folder: its exit code and what it printed.

    What the command takes for its own process is put back: signals, and after the test settings of libraries.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def bench(*arguments):
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
        code = exit_code_of(monkeypatch, *arguments)
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return bench


@pytest.fixture
def terminal(bench, monkeypatch):
    """Run `bench ...` with stdout a terminal of so many columns: what it printed there."""

    def terminal(columns, *arguments):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return bench(*arguments).stdout

    return terminal
