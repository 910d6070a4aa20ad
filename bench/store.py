"""The folder that keeps records, and how they are read from it.

A record is on disk, whole, before the next cell starts: it is written beside its place and moved into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.errors import NotComparableError, StorageError, UsageError
from bench.records import Record, Stage


class RecordStore:
    """A folder with one JSON file per record, named after task, architecture, stage and key."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Open `folder`, making it where it does not exist.

        Raises:
            UsageError: it cannot be made or written to.
        """
        self.folder = folder
        self._warn = warn
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error

    def path(self, task: str, architecture: str, stage: Stage, key: str) -> Path:
        """Where the record of a cell's stage stands."""
        return self.folder / f"{task}--{architecture}--{stage}--{key}.json"

    def load(self, task: str, architecture: str, stage: Stage, key: str) -> Record | None:
        """The stored record, or None. A damaged file is set aside with a warning, not lost and not trusted."""
        path = self.path(task, architecture, stage, key)
        try:
            record = Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            aside = path.with_suffix(".json.damaged")
            path.replace(aside)
            first = error.errors()[0]
            self._warn(
                f"{path.name} is damaged ({first['msg']}): set aside as {aside.name}, its cell is measured again"
            )
            return None
        return record

    def save(self, record: Record) -> None:
        """Write a record whole or not at all.

        Raises:
            StorageError: the disk is full or the folder no longer writable; what stood there before stands still.
        """
        write_atomically(
            self.path(record.task, record.architecture, record.stage, record.key),
            record.model_dump_json(indent=1) + "\n",
        )


def read_records(folder: Path) -> list[Record]:
    """All records of a run's output folder (or of its folder `records`), in the order in which they were made.

    Of several records of the same task, architecture, stage and settings, the newest is kept.

    Raises:
        UsageError: there is no such folder, or a record is damaged or of another format.
        NotComparableError: it has no records.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give the output folder of `bench run`")
    inner = folder / "records"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.json"))
    if not paths:
        raise NotComparableError(f"no records in {folder}: give the output folder of `bench run`, which makes them")
    records = sorted((read_record(path) for path in paths), key=lambda record: record.provenance.created)
    newest = {
        (record.task, record.architecture, record.stage, json.dumps(record.settings, sort_keys=True)): record
        for record in records
    }
    return sorted(newest.values(), key=lambda record: record.provenance.created)


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        UsageError: it cannot be read, is damaged, or of another format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        ours = Record.model_fields["format"].default
        found = _format(content)
        if found is not None and found != ours:
            remedy = "update bench" if found > ours else "make it again with `bench run`"
            raise UsageError(
                f"{path} is a record of format {found}, and this bench reads format {ours}: {remedy}"
            ) from None
        first = error.errors()[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise UsageError(f"{path} is damaged ({what}): remove it or make it again with `bench run`") from error


def _format(content: bytes) -> int | None:
    """The format that a record says it has, if it can be read so far."""
    try:
        values = json.loads(content)
    except ValueError:
        return None
    found = values.get("format") if isinstance(values, dict) else None
    return found if isinstance(found, int) else None


def to_json(records: Sequence[Record]) -> str:
    """Records as one JSON list."""
    return TypeAdapter(Sequence[Record]).dump_json(records, indent=1).decode()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and never a part.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror}; what was stored before is intact") from error
