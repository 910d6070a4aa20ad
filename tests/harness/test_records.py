import errno
import os

import pytest

from bench.errors import NotComparableError, UsageError
from bench.records import Record
from bench.store import RecordStore, read_records, write_atomically


def test_a_full_disk_leaves_the_old_content_whole(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device; what was stored before is intact"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to the output folder"):
        RecordStore(tmp_path / "file" / "records", print)


def record(**given):
    provenance = {"bench": "0", "source": "s", "commit": None, "torch": "2.13.0", "python": "3.11", "platform": "x"}
    values = {
        "key": "k",
        "stage": "memory",
        "preset": None,
        "architecture": "LU-DnCNN",
        "task": "ct",
        "paper_task": "ct",
        "settings": {"model": {"stages": 8}},
        "status": "failed",
        "seconds": 1.0,
        "provenance": provenance | {"created": given.pop("created", "2026-01-01T00:00:00+00:00")},
    }
    return Record.model_validate(values | given)


def store(folder, *records):
    for place, each in enumerate(records):
        (folder / f"{place}.json").write_text(each.model_dump_json())


def test_records_are_read_from_the_output_folder_or_from_its_records(tmp_path):
    (tmp_path / "records").mkdir()
    store(tmp_path / "records", record(), record(task="mri"))
    (tmp_path / "records" / "old.json.damaged").write_text("")
    assert read_records(tmp_path) == read_records(tmp_path / "records") == [record(), record(task="mri")]


def test_the_newest_of_equal_settings_is_kept(tmp_path):
    old, new = record(key="old"), record(key="new", created="2026-01-02T00:00:00+00:00")
    other = record(key="other", settings={"model": {"stages": 4}})
    store(tmp_path, new, other, old)
    assert [each.key for each in read_records(tmp_path)] == ["other", "new"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "damaged.json is damaged \\(Invalid JSON"),
        ("[]", "damaged.json is damaged \\("),
        ('{"format": 2, "key": 3}', r"damaged.json is damaged \(key: Input should be a valid string"),
        ('{"format": 3}', "damaged.json is a record of format 3, and this bench reads format 2: update bench"),
        ('{"format": 1}', "damaged.json is a record of format 1, and this bench reads format 2: make it again"),
    ],
)
def test_a_record_that_cannot_be_read(tmp_path, content, sentence):
    store(tmp_path, record())
    (tmp_path / "damaged.json").write_text(content)
    with pytest.raises(UsageError, match=sentence):
        read_records(tmp_path)


def test_a_folder_without_records(tmp_path):
    with pytest.raises(NotComparableError, match=r"no records in .*: give the output folder of `bench run`"):
        read_records(tmp_path)
    with pytest.raises(UsageError, match=r"there is no folder .*missing: give the output folder of `bench run`"):
        read_records(tmp_path / "missing")
