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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import StorageError, UsageError
from bench.files import leads_outside, open_regular, write_atomically
from bench.names import file_stem
from bench.records import Record
from bench.records.ages import by_clock, oldest_first
from bench.records.store import DamagedRecordError, read_record

MADE_BY = ("seconds", "provenance")
COUNTED = "sequence"
"""How a record came about, which says nothing of its results."""


@dataclass(frozen=True)
class Stored:
    """A record, the file it is from, and the output folder that this is in."""

    record: Record
    path: Path
    folder: Path


def gathered(folders: Iterable[Path]) -> list[Stored]:
    """The records of all folders, one per cell and stage, the oldest first.

    Those of one cell that come from several folders are counted anew.

    Raises:
        UsageError: a folder is none of a run, there are no records at all, one cannot be read, or two are in conflict.
    """
    folders = list({os.path.realpath(folder): folder for folder in folders}.values())
    found: dict[tuple[str, ...], Stored] = {}
    for folder in folders:
        records = folder / "records"
        if not records.is_dir():
            raise UsageError(f"{folder} is no output folder of `bench run`: it has no folder records")
        for path in sorted(records.glob("*.json")):
            record = read_record(path, within=folder)
            stored = Stored(record, path, folder)
            name = (*record.cell, record.key)
            found[name] = _united(found[name], stored) if name in found else stored
    if not found:
        raise UsageError(f"nothing to merge: no records in {', '.join(map(str, folders))}")
    return list(_counted(found, folders))


def _counted(found: dict[tuple[str, ...], Stored], folders: Iterable[Path]) -> Iterator[Stored]:
    """The oldest first; where the count of a cell's records says otherwise, it is raised."""
    last: dict[tuple[str, ...], Record] = {}
    for record in oldest_first([each.record for each in found.values() if each.folder == one] for one in folders):
        stored = found[(*record.cell, record.key)]
        before = last.get(record.cell)
        if before and (before.sequence, by_clock(before)) > (record.sequence, by_clock(record)):
            record = record.model_copy(update={COUNTED: before.sequence + 1})
        last[record.cell] = record
        yield Stored(record, stored.path, stored.folder)


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
    values = record.model_dump(exclude={*MADE_BY, COUNTED})
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
    """Write records and their cells' checkpoints and reconstructions into an empty folder.

    Raises:
        UsageError: they cannot be read or written.
    """
    for each in stored:
        record = each.record
        path = folder / "records" / f"{file_stem(*record.cell, record.key)}.json"
        write_atomically(path, record.model_dump_json(indent=1) + "\n")
        for source in _other_files(each):
            target = folder / source.relative_to(each.folder)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_regular(source, within=each.folder) as content, target.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
            except OSError as error:
                raise UsageError(f"cannot copy {source}: {error.strerror}") from error


def _other_files(stored: Stored) -> list[Path]:
    """The checkpoints and reconstructions of a record's cell, which are named after it and its key."""
    record, folder = stored.record, stored.folder
    stem = file_stem(record.task, record.architecture, record.key)
    checkpoints = (folder / "checkpoints").glob(f"{stem}--seed*.pt")
    mine = [path for path in sorted(checkpoints) if re.fullmatch(r"-?\d+", path.stem.removeprefix(f"{stem}--seed"))]
    reconstructions = folder / "reconstructions" / f"{stem}.safetensors"
    return [*mine, *([reconstructions] if os.path.lexists(reconstructions) else [])]


def move_into(staged: Path, output: Path, *, force: bool) -> None:
    """Move all files of a folder into another on the same disk, or none where something is in the way of one.

    With `force` a file of other content is not, but still what is no file of bench's: a link, or a record that only a
    newer bench can read.

    Raises:
        UsageError: something is in the way.
        OSError: they cannot be moved.
    """
    names = [path.relative_to(staged) for path in sorted(staged.rglob("*")) if path.is_file()]
    for name in names:
        _check_replaceable(output, name)
    in_the_way = [name for name in names if (output / name).exists() and not _same(staged / name, output / name)]
    if in_the_way and not force:
        more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
        raise UsageError(f"{output} has another {in_the_way[0]}{more}: give --force to overwrite, or another --output")
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, output / name)


def _check_replaceable(output: Path, name: Path) -> None:
    path = output / name
    if leads_outside(path.parent, output):
        raise UsageError(f"cannot write {path}: a symbolic link leads out of {output}")
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        raise UsageError(f"{path} is no file of bench's: move it away, or give another --output")
    if path.parent.name == "records":
        try:
            read_record(path)
        except DamagedRecordError:
            return
        except StorageError as error:
            raise UsageError(f"nothing is written: {error}") from error


def _same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)
