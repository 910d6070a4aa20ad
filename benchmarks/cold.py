"""A whole process timed, as a user runs it: imports are included."""

from __future__ import annotations

import subprocess
import sys

from pytest_benchmark.fixture import BenchmarkFixture

COMMAND = [sys.executable, "-c", "from bench.cli import main; main()"]


def cold(benchmark: BenchmarkFixture, *arguments: str, rounds: int) -> None:
    """`bench` with these arguments, in a new process per round."""
    benchmark.pedantic(
        lambda: subprocess.run([*COMMAND, *arguments], check=True, capture_output=True), rounds=rounds, warmup_rounds=1
    )
