"""The folder that keeps records, and how they are read from it.

A record is on disk, whole, before the next cell starts. Several runs may keep theirs in one folder at the same time:
whoever saves a record unites it with the one that is there, under a lock.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from bench.errors import NotComparableError, StorageError, UsageError
from bench.files import leads_outside, locked, read_json, remove_abandoned, write_atomically
from bench.names import file_stem
from bench.records import Record, Stage, united
from bench.records.ages import is_from_the_future, oldest_first
from bench.units import MiB

LARGEST_RECORD_BYTES = 256 * MiB
MOST_NAMED = 5  # of odd records; of more the number is said

_OURS = {
    "records": r".+\.json",
    "checkpoints": r".+\.pt",
    "reconstructions": r".+\.safetensors",
    ".": r"(table\d|timing|profile)\.(md|csv)",
}
"""What a run writes into its output folder, folder by folder."""


class DamagedRecordError(StorageError):
    """A file has no record of this format or a newer one in it: `what` it is."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path} is {what}: {remedy}")
        self.what = what


class RecordStore:
    """A folder with one JSON file per record, named after task, architecture, stage and key."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Open `folder`, making it where it does not exist, and clear away what killed runs left half written.

        Raises:
            UsageError: it cannot be made or written to, or is a link out of the output folder.
        """
        self.folder = folder
        self.output = folder.parent
        self._warn = warn
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error
        if leads_outside(folder, self.output):
            raise UsageError(f"{folder} leads out of the output folder: link the output folder itself")
        with locked(folder):
            for name, pattern in _OURS.items():
                remove_abandoned(self.output / name, pattern)

    def path(self, task: str, architecture: str, stage: Stage, key: str) -> Path:
        """Where the record of a cell's stage stands.

        Raises:
            UsageError: one of the names cannot be part of a file's name.
        """
        try:
            return self.folder / f"{file_stem(task, architecture, stage, key)}.json"
        except ValueError as error:
            raise UsageError(f"{architecture!r} on {task!r} cannot be stored: {error}") from error

    def load(self, task: str, architecture: str, stage: Stage, key: str) -> Record | None:
        """The stored record, or None. A damaged file is set aside with a warning, not lost and not trusted.

        Raises:
            StorageError: it cannot be read, is of a newer format or of another cell; it stays where it is.
        """
        path = self.path(task, architecture, stage, key)
        try:
            return self._read(path)
        except DamagedRecordError:
            with locked(self.folder):
                return self._read_or_set_aside(path)

    def save(self, record: Record) -> Record:
        """Write a record whole or not at all, united with the one that is there; returns what this comes to.

        A failure is returned, and not stored in the place of a result.

        Raises:
            StorageError: the disk is full, the folder no longer writable, or what stands there is of a newer format or
                of another cell; what stood there before stands still.
        """
        path = self.path(record.task, record.architecture, record.stage, record.key)
        with locked(self.folder):
            stored = self._read_or_set_aside(path)
            if stored is not None:
                record, failure = united(stored, record), record
                if record is stored:
                    return failure
            record = record.model_copy(update={"sequence": self._last_sequence(record) + 1})
            write_atomically(path, record.model_dump_json(indent=1) + "\n", within=self.output)
        return record

    def _read(self, path: Path) -> Record | None:
        return read_record(path, within=self.output) if os.path.lexists(path) else None

    def _read_or_set_aside(self, path: Path) -> Record | None:
        try:
            return self._read(path)
        except DamagedRecordError as error:
            aside, number = path.with_name(f"{path.name}.damaged"), 1
            while os.path.lexists(aside):
                number += 1
                aside = path.with_name(f"{path.name}.damaged-{number}")
            path.replace(aside)
            self._warn(f"{path.name} is {error.what}: set aside as {aside.name}, its cell is measured again")
            return None

    def _last_sequence(self, record: Record) -> int:
        """The largest of the cell's records, whatever their keys; what cannot be read is not counted."""
        last = 0
        for path in self.folder.glob(f"{file_stem(*record.cell)}--*.json"):
            try:
                last = max(last, read_record(path, within=self.output).sequence)
            except StorageError:
                continue
        return last


def read_records(folder: Path, warn: Callable[[str], object] = warnings.warn) -> list[Record]:
    """All records of a run's output folder (or of its folder `records`), in the order in which they were made.

    Of several records of the same task, architecture, stage and settings, the newest is kept. What cannot be used is
    named and left out.

    Raises:
        UsageError: there is no such folder.
        NotComparableError: it has no records, or none that can be used.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give the output folder of `bench run`")
    inner = folder / "records"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.json"))
    if not paths:
        raise NotComparableError(f"no records in {folder}: give the output folder of `bench run`, which makes them")
    records: list[Record] = []
    odd: list[str] = []
    ahead: list[str] = []
    for path in paths:
        try:
            record = read_record(path, within=folder)
        except StorageError as error:
            odd.append(str(error))
            continue
        records.append(record)
        if is_from_the_future(record):
            ahead.append(f"{path} was made on {record.provenance.created}, which is to come: it counts as the oldest")
    if not records:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        raise NotComparableError(f"no record in {folder} can be used: {odd[0]}{more}")
    _name(odd, "left out: ", warn)
    _name(ahead, "", warn)
    newest: dict[tuple[object, ...], Record] = {}
    for record in oldest_first([records]):
        identity = (*record.cell, json.dumps(record.settings, sort_keys=True))
        newest.pop(identity, None)
        newest[identity] = record
    return list(newest.values())


def _name(sentences: Sequence[str], before: str, warn: Callable[[str], object]) -> None:
    for sentence in sentences[:MOST_NAMED]:
        warn(before + sentence)
    if len(sentences) > MOST_NAMED:
        warn(f"{before}{len(sentences) - MOST_NAMED} more files")


def read_record(path: Path, *, within: Path | None = None) -> Record:
    """The record in a file; its name has to be that of the record.

    Raises:
        DamagedRecordError: it is damaged, or of an older format.
        StorageError: it cannot be read, is of a newer format or another record than its name says, or a symbolic link
            leads out of the folder `within`.
    """
    try:
        content = read_json(path, LARGEST_RECORD_BYTES, within=within)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    try:
        record = Record.model_validate_json(content)
    except ValidationError as error:
        raise _unusable(path, content, error) from error
    name = f"{file_stem(*record.cell, record.key)}.json"
    if path.name != name:
        raise StorageError(f"{path} has the record in it whose name is {name}: give it its name, or remove it")
    return record


def _unusable(path: Path, content: bytes, error: ValidationError) -> StorageError:
    ours = Record.model_fields["format"].default
    found = _format(content)
    if found is not None and found != ours:
        what = f"a record of format {found}, and this bench reads format {ours}"
        if found > ours:
            return StorageError(f"{path} is {what}: update bench, or run this one into another folder")
        return DamagedRecordError(path, what, "make it again with `bench run`")
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    what = f"damaged ({': '.join(filter(None, (place, message)))})"
    return DamagedRecordError(path, what, "remove it or make it again with `bench run`")


def _format(content: bytes) -> int | None:
    """The format that a record says it has, if it can be read so far."""
    try:
        values = from_json(content)
    except ValueError:
        return None
    found = values.get("format") if isinstance(values, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def to_json(records: Sequence[Record]) -> str:
    """Records as one JSON list."""
    return TypeAdapter(Sequence[Record]).dump_json(records, indent=1).decode()
