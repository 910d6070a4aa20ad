"""The accepted changes: those that no test needs to notice, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.mutation.mutants import Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH = Path(__file__).with_name("survivors.toml")


class Survivor(NamedTuple):
    """A change of a line, known by the line's text.

    Without text: every change of the file that no test runs, or, if the change is "*", every change of the file.
    """

    file: str
    text: str | None
    change: str | None


Accepted = dict[Survivor, str]


def read(path: Path) -> Accepted:
    """Accepted changes and reasons; a table `survivor` with several `changes`, or `lines`, stands for several."""
    accepted: Accepted = {}
    for table in tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", []):
        for line, changes in table.get("lines", {table.get("line"): table.get("changes", [None])}).items():
            for change in changes:
                accepted[Survivor(table["file"], line, change)] = table["reason"]
    return accepted


def is_whole(accepted: Accepted, file: str) -> bool:
    """Whether every change of a file is accepted, so that none need be tried."""
    return Survivor(file, None, "*") in accepted


def reason(accepted: Accepted, mutant: Mutant, *, is_covered: bool) -> str | None:
    """Why a change need not be noticed; None if it must."""
    known = [Survivor(mutant.file, mutant.text, mutant.change), Survivor(mutant.file, None, "*")]
    if not is_covered:
        known.append(Survivor(mutant.file, None, None))
    return next((accepted[survivor] for survivor in known if survivor in accepted), None)


def stale(accepted: Accepted, made: Iterable[Mutant], files: Sequence[str]) -> list[Survivor]:
    """Accepted changes of some files that cannot be made any more."""
    known = {Survivor(mutant.file, mutant.text, mutant.change) for mutant in made}
    known |= {Survivor(file, None, change) for file in files for change in (None, "*")}
    return [survivor for survivor in accepted if survivor.file in files and survivor not in known]
