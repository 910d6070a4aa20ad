"""Pairs: two commands at the same time on one folder; in the end it must be as if one had followed the other."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.storm import rules
from tools.storm.kills import difference, results
from tools.storm.sandbox import Sandbox
from tools.storm.totals import Fault, Totals

RUN = ("run", "--output", "out", "--stages", "memory")
TRAIN = ("train", "--architecture", "LU-DnCNN", "--task", "blur", "--output", "out")
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Pair:
    """Two commands, those that are run first so that there is something, and the folders whose records count."""

    one: tuple[str, ...]
    other: tuple[str, ...]
    first: tuple[tuple[str, ...], ...] = ()
    folders: tuple[str, ...] = ("out",)


PAIRS = {
    "other cards": Pair((*RUN, "--gpu-cap", "4GB"), (*RUN, "--gpu-cap", "6GB")),
    "other stages": Pair(RUN, ("run", "--output", "out", "--stages", "memory,profile")),
    "other seeds": Pair((*TRAIN, "--seed", "0"), (*TRAIN, "--seed", "1")),
    "the same": Pair(RUN, RUN),
    "the same training": Pair(TRAIN, TRAIN),
    "other cards of what is there": Pair((*RUN, "--gpu-cap", "6GB"), (*RUN, "--gpu-cap", "8GB"), first=(RUN,)),
    "a run and a training": Pair(RUN, TRAIN),
    "a merge while a run writes": Pair(
        ("run", "--output", "results/runs", "--fresh"),
        ("merge", "results/runs", "--output", "merged"),
        folders=("results/runs",),
    ),
    "a report while a run writes": Pair(
        ("run", "--output", "results/runs", "--gpu-cap", "6GB"),
        ("report", "--records", "results/runs", "--formats", "markdown", "--output", "reported"),
        folders=("results/runs",),
    ),
    "a merge into what a run writes": Pair(
        ("run", "--output", "out", "--stages", "memory"), ("merge", "results/runs", "--output", "out")
    ),
}
"""Pairs by what is simultaneous."""


def storm(count: int, seed: int, root: Path, template: Path) -> Totals:
    """Run `count` pairs, one kind after the other, in sandboxes at `root` that are made of `template`."""
    chance = random.Random(seed)
    totals = Totals()
    one_by_one: dict[str, dict[str, Any]] = {}
    names = [list(PAIRS)[(seed + place) % len(PAIRS)] for place in range(count)]
    for name in names:
        if name not in one_by_one:
            one_by_one[name] = _one_by_one(PAIRS[name], Sandbox(root, template))
        delay = chance.choice([0.0, chance.uniform(0, 1)])
        faults = list(_tried(PAIRS[name], one_by_one[name], delay, Sandbox(root, template)))
        totals.count(f"pairs {name}", "right" if not faults else "wrong")
        for kind, said in faults:
            pair = PAIRS[name]
            example = f"bench {' '.join(pair.one)} &\nbench {' '.join(pair.other)}    # {delay:.2f} s later"
            totals.found(Fault(f"pair, {name}: {kind}", f"{example}\n-> {said}"))
    Sandbox(root).clear()
    return totals


def _one_by_one(pair: Pair, sandbox: Sandbox) -> dict[str, Any]:
    """What the records say when the commands follow one another."""
    for command in (*pair.first, pair.one, pair.other):
        end = sandbox.run(*command, seconds=PATIENCE_SECONDS)
        if end.code != 0:
            raise RuntimeError(f"bench {' '.join(command)} alone ends with {end.code}: {end.stderr}")
    return {folder: results(sandbox.project / folder) for folder in pair.folders}


def _tried(pair: Pair, expected: dict[str, Any], delay: float, sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    for command in pair.first:
        sandbox.run(*command, seconds=PATIENCE_SECONDS)
    before = sandbox.contents().keys()
    one = sandbox.start(*pair.one)
    time.sleep(delay)
    other = sandbox.start(*pair.other)
    for command, running in ((pair.one, one), (pair.other, other)):
        end = running.end(PATIENCE_SECONDS)
        if end.code != 0:
            yield f"{command[0]} ends with {end.code}", end.stderr[-300:]
        yield from ((fault, end.stderr[-300:]) for fault in rules.faults(command[0], end))
        if running.orphans():
            yield f"{command[0]} leaves a process behind", ""
            running.kill()
    for folder in pair.folders:
        found = results(sandbox.project / folder)
        if found != expected[folder]:
            yield "the records are not those of one after the other", difference(found, expected[folder])
    if left := sandbox.temporaries(before):
        yield "a temporary file stays", str(left[0])
