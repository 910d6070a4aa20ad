"""Run the storm, print what was done and what was found; exit code 1 where something is wrong."""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tools.storm import command, inputs, kills, pairs
from tools.storm.sandbox import Sandbox
from tools.storm.totals import Totals

PARTS = 6
"""Into how many parts inputs of a kind and kills are divided, for whichever process is free."""

READY = (
    ("run", "--stages", "memory,profile,timing,accuracy", "--jobs", "1"),
    ("baseline", "update"),
)
"""What makes a project one with results."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tools.storm", description=__doc__)
    parser.add_argument("--inputs", type=int, default=560, help="bad inputs")
    parser.add_argument("--kills", type=int, default=210, help="kills at random moments")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of simultaneous commands")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, help="of everything that is drawn [default: another each time]")
    given = parser.parse_args(arguments)
    seed = random.randrange(10**6) if given.seed is None else given.seed
    begun = time.monotonic()
    command.preload()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        totals = storm(Path(folder), given.inputs, given.kills, given.pairs, given.jobs, seed)
    print(*totals.lines(), f"seed {seed}, {time.monotonic() - begun:.0f} s", sep="\n")
    return 1 if totals.faults else 0


def storm(
    folder: Path,
    input_count: int,
    kill_count: int,
    pair_count: int,
    jobs: int,
    seed: int,
    ready: Sequence[Sequence[str]] = READY,
    kinds: Sequence[str] = tuple(inputs.SHARES),
) -> Totals:
    """All parts of a storm, side by side, below a folder.

    Args:
        folder: for everything.
        input_count: bad inputs.
        kill_count: kills.
        pair_count: pairs.
        jobs: processes.
        seed: of everything that is drawn.
        ready: the commands that make results before it begins.
        kinds: of inputs.
    """
    template = _template(folder / "template", ready)
    work: list[tuple[Callable[[int, int, Path, Path], Totals], int]] = [
        *((pairs.storm, count) for count in _divided(pair_count, 2)),
        *((kills.storm, count) for count in _divided(kill_count, PARTS)),
    ]
    whole = sum(inputs.SHARES[kind] for kind in kinds)
    so_far = 0.0
    for kind in kinds:
        first, so_far = round(so_far / whole * input_count), so_far + inputs.SHARES[kind]
        count = round(so_far / whole * input_count) - first
        work += [(partial(inputs.storm, kind), share) for share in _divided(count, PARTS if count > PARTS else 1)]
    totals = Totals()
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as executor:
        parts = [
            executor.submit(part, count, seed + place, folder / str(place), template)
            for place, (part, count) in enumerate(work)
        ]
        for done in concurrent.futures.as_completed(parts):
            totals.add(done.result())
    return totals


def _divided(count: int, parts: int) -> list[int]:
    return [share for part in range(parts) if (share := count * (part + 1) // parts - count * part // parts)]


def _template(root: Path, ready: Sequence[Sequence[str]] = READY) -> Path:
    """A project with results of its suite."""
    sandbox = Sandbox(root)
    for arguments in ready:
        end = sandbox.run(*arguments, seconds=300)
        if end.code != 0:
            raise RuntimeError(f"bench {' '.join(arguments)} ends with {end.code}: {end.stderr}")
    return sandbox.project


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
