"""Change the code in small ways, one at a time, and list the changes that no test notices (docs/MUTATION.md).

Works in copies of the repository. The exit code is 1 where a change survives that the list of accepted ones lacks, or
where the list has a change that cannot be made any more.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tools.mutation import packages, survivors
from tools.mutation.mutants import Mutant, mutants
from tools.mutation.reach import TestsFailError, reach
from tools.mutation.runner import Outcome, copy_repository, run, warm_up

UNNOTICED = (Outcome.SURVIVED, Outcome.NOT_COVERED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"packages or files; all: {', '.join(packages.TESTS)}")
    parser.add_argument("--jobs", type=int, default=2, help="changes tried at the same time")
    parser.add_argument("--sample", type=int, metavar="N", help="of each path, N changes drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--most-seconds", type=float, default=30, metavar="S", help="of tests that a change is held against"
    )
    parser.add_argument(
        "--most-minutes", type=float, metavar="M", help="of trying: changes at random until then; totals are of those"
    )
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="only the changes that an earlier run has printed there"
    )
    parser.add_argument("--survivors", type=Path, default=survivors.PATH, metavar="FILE", help="accepted changes")
    options = parser.parse_args(arguments)

    accepted = survivors.read(options.survivors)
    chosen: list[Mutant] = []
    stale: list[survivors.Survivor] = []
    try:
        paths = {path: packages.package_of(path) for path in options.paths or packages.TESTS}
    except ValueError as error:
        parser.error(str(error))
    for path in paths:
        made = [mutant for file in packages.files(path) for mutant in mutants(packages.ROOT, file)]
        stale += survivors.stale(accepted, made, packages.files(path))
        drawn = random.Random(options.seed).sample(range(len(made)), min(options.sample or len(made), len(made)))
        chosen += [made[place] for place in sorted(drawn) if not survivors.is_whole(accepted, made[place].file)]
    if options.again is not None:
        printed = {line.rpartition(" (")[0] for line in options.again.read_text().splitlines()}
        chosen = [mutant for mutant in chosen if _name(mutant) in printed]
    folders = {package: packages.TESTS[package] for package in paths.values()}

    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder).resolve() / "tree"
        copy_repository(packages.ROOT, tree)
        warm_up()
        print(f"{len(chosen)} changes; the tests without a change first", file=sys.stderr, flush=True)
        try:
            reached = reach(tree, [part for parts in folders.values() for part in parts], list(folders))
        except TestsFailError as error:
            print(error, file=sys.stderr)
            return 2
        most = options.most_seconds
        tasks = [reached.task(mutant, folders[packages.package_of(mutant.file)], most) for mutant in chosen]
        if options.most_minutes is not None:
            random.Random(options.seed).shuffle(tasks)
        with contextlib.closing(run(tasks, tree, options.jobs)) as outcomes:
            wrong = report(until(outcomes, options.most_minutes), accepted)
    for survivor in stale:
        print(f"{survivor.file}: accepted, but cannot be made any more: {survivor.change} in {survivor.text!r}")
    return 1 if wrong or stale else 0


def until(outcomes: Iterable[tuple[Mutant, Outcome]], minutes: float | None) -> Iterator[tuple[Mutant, Outcome]]:
    """What is known after some minutes; all if None."""
    end = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    return itertools.takewhile(lambda _: time.monotonic() < end, outcomes)


def report(outcomes: Iterable[tuple[Mutant, Outcome]], accepted: survivors.Accepted) -> int:
    """Print what no test notices and nobody accepted, as it is known, then totals; how many these are."""
    totals: dict[str, Counter[Outcome]] = defaultdict(Counter)
    accepted_of: Counter[str] = Counter()
    wrong = 0
    for mutant, outcome in outcomes:
        package = packages.package_of(mutant.file)
        totals[package][outcome] += 1
        if outcome not in UNNOTICED:
            continue
        if survivors.reason(accepted, mutant, is_covered=outcome is Outcome.SURVIVED) is not None:
            accepted_of[package] += 1
        else:
            wrong += 1
            print(f"{_name(mutant)} ({outcome.value})", flush=True)
    for package, total in totals.items():
        counts = ", ".join(f"{total[outcome]} {outcome.value}" for outcome in Outcome)
        print(f"{package}: {total.total()} changes: {counts}; {accepted_of[package]} of those not noticed are accepted")
    return wrong


def _name(mutant: Mutant) -> str:
    """How a change is printed, before what became of it."""
    return f"{mutant.file}:{mutant.line}: {mutant.change}"


if __name__ == "__main__":
    sys.exit(main())
