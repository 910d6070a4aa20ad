"""Output folders of several runs put together: shards of one run, or runs on several machines.

Records are of the same cell if their key is the same: settings, sources and torch's version. What becomes of two such:

* a failure has no results, and gives way to the other record;
* memory and its profile are computed, so results must be equal, whatever the time they took and the machine they are
  from; records of memory that answer for different cards are united;
* time and accuracy are measured, so two records are two measurements: only copies of one are the same.

Anything else is a conflict, and nobody but the user can tell which record to keep.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.records import Record
from bench.store import RecordStore, read_record

MADE_BY = ("seconds", "provenance")
"""How a record came about, which says nothing of its results."""


@dataclass(frozen=True)
class Stored:
    """A record, the file it is from, and the output folder that this is in."""

    record: Record
    path: Path
    folder: Path


def gathered(folders: Iterable[Path]) -> list[Stored]:
    """The records of all folders, one per cell and stage.

    Raises:
        UsageError: a folder is none of a run, there are no records at all, one cannot be read, or two are in conflict.
    """
    folders = list(folders)
    found: dict[tuple[str, ...], Stored] = {}
    for folder in folders:
        records = folder / "records"
        if not records.is_dir():
            raise UsageError(f"{folder} is no output folder of `bench run`: it has no folder records")
        for path in sorted(records.glob("*.json")):
            record = read_record(path)
            stored = Stored(record, path, folder)
            cell = record.task, record.architecture, record.stage, record.key
            found[cell] = _united(found[cell], stored) if cell in found else stored
    if not found:
        raise UsageError(f"nothing to merge: no records in {', '.join(map(str, folders))}")
    return list(found.values())


def _united(one: Stored, other: Stored) -> Stored:
    """What two records of a cell come to.

    Raises:
        UsageError: they are in conflict.
    """
    if "failed" in (one.record.status, other.record.status):
        return other if one.record.status == "failed" else one
    difference = _difference(_compared(one.record), _compared(other.record))
    if difference:
        raise UsageError(
            f"{one.path} and {other.path} are of the same cell and differ in {difference}: keep one of them"
        )
    memory, others = one.record.memory, other.record.memory
    if memory is None or others is None:
        return one
    new = [card for card in others.cards if one.record.card(card.card) is None]
    united = one.record.model_copy(update={"memory": memory.model_copy(update={"cards": [*memory.cards, *new]})})
    return Stored(united, one.path, one.folder)


def _compared(record: Record) -> dict[str, Any]:
    """What has to be equal in another record of the cell: results first, and of memory nothing but results."""
    values = record.model_dump(exclude=set(MADE_BY))
    if record.memory:
        return values | {
            "memory": values["memory"] | {"cards": {card["card"]: card for card in values["memory"]["cards"]}}
        }
    if record.profile:
        return values
    return values | record.model_dump(include=set(MADE_BY))


def _difference(one: Any, other: Any, place: str = "") -> str | None:
    """The first place where two values differ, and how; a card that only one record answers for is no difference."""
    if isinstance(one, list) and isinstance(other, list):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if not isinstance(one, dict) or not isinstance(other, dict):
        return None if one == other else f"{place} ({one} and {other})"
    for key in dict.fromkeys([*one, *other]):
        if place == "memory.cards" and not (key in one and key in other):
            continue
        found = _difference(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
        if found:
            return found
    return None


def stage(stored: Iterable[Stored], folder: Path) -> None:
    """Write records and their cells' other files into an empty folder.

    Raises:
        UsageError: they cannot be written.
        OSError: the other files cannot be written.
    """
    store = RecordStore(folder / "records", warn=lambda message: None)
    keys: dict[Path, set[str]] = {}
    for each in stored:
        store.save(each.record)
        keys.setdefault(each.folder, set()).add(each.record.key)
    for origin, of_origin in keys.items():
        for path in _other_files(origin, of_origin):
            target = folder / path.relative_to(origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _other_files(folder: Path, keys: set[str]) -> list[Path]:
    """The checkpoints and reconstructions of an output folder's records, which have their keys in their names."""
    below = [path for path in sorted(folder.iterdir()) if path.name != "records" and not path.name.startswith(".")]
    files = [file for path in below for file in sorted(path.rglob("*"))]
    return [file for file in files if keys.intersection(re.split(r"--|\.", file.name)) and file.is_file()]


def move_into(staged: Path, output: Path, *, force: bool) -> None:
    """Move all files of a folder into another on the same disk, or none where one of other content is in the way.

    Raises:
        UsageError: there is one, and not `force`.
        OSError: they cannot be moved.
    """
    names = [path.relative_to(staged) for path in sorted(staged.rglob("*")) if path.is_file()]
    in_the_way = [name for name in names if (output / name).exists() and not _same(staged / name, output / name)]
    if in_the_way and not force:
        more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
        raise UsageError(f"{output} has another {in_the_way[0]}{more}: give --force to overwrite, or another --output")
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, output / name)


def _same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)
