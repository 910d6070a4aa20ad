import codecs
import errno
import fcntl
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from bench.errors import NotComparableError, StorageError, UsageError
from bench.files import locked, remove_abandoned, write_atomically
from bench.records import CATEGORIES, Record
from bench.records.store import RecordStore, read_record, read_records


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
        "settings": settings(),
        "status": "failed",
        "reason": "out of luck",
        "seconds": 1.0,
        "provenance": provenance | {"created": given.pop("created", "2026-01-01T00:00:00+00:00")},
    }
    return Record.model_validate(values | given)


def settings(stages=8):
    return {
        "model": {"stages": stages, "gradient": "one-graph", "solver": {"max_evaluations": 8}},
        "task": {"operator": "Radon"},
        "training": {"loss": "final"},
        "memory": {"engine": "simulated", "steps": 2, "alloc_conf": ""},
        "accuracy": {"steps": 10},
    }


EDGE = {
    **{"largest_batch": 7, "peak_allocated_bytes": 1, "peak_reserved_bytes": 2, "retries": 0, "fallbacks": 0},
    **{"not_fitting": [8], "monotone": True},
}


def card(name, **changed):
    sizes = {"total_bytes": 100, "context_bytes": 10, "usable_bytes": 90, "cudnn": None}
    return {"card": name, **sizes, "edges": {"high": EDGE, "low": EDGE}} | changed


def memory(*names, **given):
    common = {"engine": "simulated", "recorded_steps": 2, "recorded_evaluations": 10, "events": 5}
    sizes = {"operator_bytes": 0, "parameter_bytes": 40, "peak_bytes_per_image": {"high": 2, "low": 1}}
    results = {**common, **sizes, "cards": [card(name) for name in names]}
    parts = {"memory": results, "parameters": {"trainable": 10, "paper": 11}}
    return record(**{"status": "ok", "reason": None, **parts} | given)


def name_of(record):
    return f"{'--'.join((*record.cell, record.key))}.json"


def store(folder, *records):
    folder.mkdir(parents=True, exist_ok=True)
    for each in records:
        (folder / name_of(each)).write_text(each.model_dump_json())


def cards(record):
    return [card.card for card in record.memory.cards]


@pytest.fixture
def opened(tmp_path):
    """A store whose warnings are kept in `warned`."""
    warned = []
    opened = RecordStore(tmp_path / "records", warned.append)
    opened.warned = warned
    return opened


def load(opened, like):
    return opened.load(*like.cell, like.key)


def test_records_are_read_from_the_output_folder_or_from_its_records(tmp_path):
    store(tmp_path / "records", record(), record(task="mri"))
    (tmp_path / "records" / "old.json.damaged").write_text("")
    assert read_records(tmp_path) == read_records(tmp_path / "records") == [record(), record(task="mri")]


def test_all_records_of_the_repository_are_read():
    folders = [path for path in Path("results").rglob("records") if path.is_dir()]
    assert len(folders) >= 4
    paths = [path for folder in folders for path in folder.glob("*.json")]
    assert len([read_record(path) for path in paths]) > 100


def test_the_newest_of_equal_settings_is_kept(tmp_path):
    old, new = record(key="old"), record(key="new", created="2026-01-02T00:00:00+00:00")
    other = record(key="other", settings=settings(4))
    store(tmp_path, new, other, old)
    assert [each.key for each in read_records(tmp_path)] == ["other", "new"]


def test_the_count_goes_before_the_clock(tmp_path):
    """The clock was wrong once, years ahead of what came after it."""
    ahead = record(key="ahead", sequence=1, created="2026-03-01T00:00:00+00:00")
    store(tmp_path, ahead, record(key="now", sequence=2, created="2026-01-02T00:00:00+00:00"))
    assert [each.key for each in read_records(tmp_path)] == ["now"]


def test_a_record_from_the_future_is_named_and_is_the_oldest(tmp_path):
    store(tmp_path, record(key="ahead", created="2999-01-01T00:00:00+00:00"), record(key="now"))
    warned = []
    assert [each.key for each in read_records(tmp_path, warned.append)] == ["now"]
    assert warned == [
        f"{tmp_path}/ct--LU-DnCNN--memory--ahead.json was made on 2999-01-01T00:00:00+00:00, which is to come: "
        "it counts as the oldest"
    ]


def test_each_record_that_is_saved_counts_one_more_than_its_cells_others(opened):
    assert opened.save(record(key="a")).sequence == 1
    assert opened.save(record(key="b", settings=settings(4))).sequence == 2
    assert opened.save(record(key="a")).sequence == 3
    assert opened.save(record(key="a", task="mri")).sequence == 1
    assert load(opened, record(key="b")).sequence == 2


def test_cards_that_another_run_added_meanwhile_stay(opened):
    opened.save(memory("8GB"))
    opened.save(memory("10GB"))
    fresh = memory("8GB")
    faster = fresh.memory.cards[0].model_copy(update={"usable_bytes": 80})
    fresh = fresh.model_copy(update={"memory": fresh.memory.model_copy(update={"cards": [faster]})})
    united = opened.save(fresh)
    assert cards(united) == ["8GB", "10GB"]
    assert united.card("8GB").usable_bytes == 80
    assert load(opened, fresh) == united


def test_a_failure_is_told_and_gives_way_to_a_result(opened):
    opened.save(memory("8GB"))
    assert opened.save(record()).status == "failed"
    assert load(opened, record()).status == "ok"
    opened.save(record(task="mri"))
    assert opened.save(memory("8GB", task="mri")).status == "ok"
    assert load(opened, record(task="mri")).status == "ok"


def test_two_stores_of_one_folder_in_two_processes_lose_nothing(tmp_path):
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_records import RecordStore, memory
store = RecordStore(Path(sys.argv[2]), print)
for number in range(10):
    store.save(memory(f"{sys.argv[3]}{number}"))
"""
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / "records")]
    running = [subprocess.Popen([*arguments, name]) for name in ("a", "b")]
    assert [each.wait() for each in running] == [0, 0]
    (record,) = read_records(tmp_path)
    assert set(cards(record)) == {f"{name}{number}" for name in "ab" for number in range(10)}
    assert record.sequence == 20
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == [".lock", name_of(record)]


def test_a_lock_of_a_killed_process_is_none(tmp_path):
    program = "import sys, os, signal; from pathlib import Path; from bench.files import locked\n"
    program += "with locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", program, tmp_path]).returncode == -9
    with locked(tmp_path):
        pass


def test_a_lock_that_is_not_given_back_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.files.LONGEST_WAIT_SECONDS", 0.1)
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=f"another process has kept {tmp_path} locked"), locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_said_once_and_nothing_is_refused(tmp_path, monkeypatch):
    from filelock import FileLock

    def refuse(*arguments, **named):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match=f"the file system of {tmp_path} has no locks") as warned:
        warnings.simplefilter("default")
        for _ in range(2):
            with locked(tmp_path):
                pass
    assert len(warned) == 1


def test_a_lock_is_no_way_out_of_the_folder(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "records").mkdir()
    (tmp_path / "records/.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(StorageError, match="cannot lock"):
        RecordStore(tmp_path / "records", print)
    assert (tmp_path / "mine").read_text() == "mine"


def test_records_are_not_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/records").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="records leads out of the output folder"):
        RecordStore(tmp_path / "run/records", print)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_nothing_damaged_replaces_anything_damaged(opened):
    path = opened.folder / name_of(record())
    for content in ("{1", "{2", "{3"):
        path.write_text(content)
        assert load(opened, record()) is None
    path.write_text("{4")
    opened.save(record())
    aside = {each.name: each.read_text() for each in opened.folder.glob("*.damaged*")}
    names = [f"{path.name}.damaged{suffix}" for suffix in ("", "-2", "-3", "-4")]
    assert aside == dict(zip(names, ("{1", "{2", "{3", "{4"), strict=True))
    assert "damaged (Invalid JSON" in opened.warned[0] and f"set aside as {names[0]}" in opened.warned[0]
    assert load(opened, record()).key == "k"


def test_a_record_of_a_newer_format_stays_and_is_not_replaced(opened):
    path = opened.folder / name_of(record())
    path.write_text('{"format": 3}')
    for attempt in (load, lambda opened, record: opened.save(record)):
        says = f"{path} is a record of format 3, and this bench reads format 2: update bench, or run this one into"
        with pytest.raises(StorageError, match=says):
            attempt(opened, record())
    assert [each.name for each in opened.folder.iterdir() if each.name != ".lock"] == [path.name]
    assert path.read_text() == '{"format": 3}'


@pytest.mark.parametrize("other", [{"task": "mri"}, {"architecture": "DEQ4IP"}, {"key": "other"}])
def test_a_record_that_says_it_is_another_cell_is_refused(opened, other):
    path = opened.folder / name_of(record())
    path.write_text(record(**other).model_dump_json())
    for attempt in (load, lambda opened, record: opened.save(record)):
        with pytest.raises(StorageError, match=f"{path} has the record in it whose name is {name_of(record(**other))}"):
            attempt(opened, record())
    with pytest.raises(NotComparableError, match=f"{path} has the record in it"):
        read_records(opened.folder)
    assert path.exists()


def test_names_that_lead_out_of_the_folder_are_refused(opened):
    with pytest.raises(UsageError, match=r"on '../../x' cannot be stored: a name is made of"):
        opened.load("../../x", "DEQ4IP", "memory", "k")


def test_what_killed_writers_left_is_cleared_away_and_what_is_being_written_stays(tmp_path):
    for name in ("records", "checkpoints", "reconstructions"):
        (tmp_path / name).mkdir()
    left = [
        *("records/.x.json.abcd_123", "checkpoints/.ct--a--k--seed0.pt.00000000", ".table3.md.zzzzzzzz"),
        "reconstructions/.x.safetensors.12345678",
    ]
    mine = [".notes.md.abcd_123", "records/.x.txt.abcd_123", "checkpoints/.x.pt.ABCDEFGH", "checkpoints/x.pt.abcd_123"]
    for name in (*left, *mine):
        (tmp_path / name).write_text("")
    with (tmp_path / "checkpoints/.being-written.pt.abcd_123").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        RecordStore(tmp_path / "records", print)
        assert Path(file.name).exists()
    assert not [name for name in left if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in mine)
    remove_abandoned(tmp_path / "missing", ".*")


def test_a_writer_whose_temporary_file_was_cleared_away_makes_another(tmp_path, monkeypatch):
    cleared = []

    def lock(descriptor, wait):
        if not cleared:
            (path,) = tmp_path.iterdir()
            cleared.append(path)
            path.unlink()

    monkeypatch.setattr("bench.files._lock", lock)
    write_atomically(tmp_path / "file", "content")
    assert cleared and (tmp_path / "file").read_text() == "content"


DEEP = "[" * 100_000
ODD = {
    "not JSON": ("{", r"damaged \(Invalid JSON"),
    "a list": ("[]", r"damaged \("),
    "a number for a text": ('{"format": 2, "key": 3}', r"damaged \(key: Input should be a valid string"),
    "newer": ('{"format": 3}', "a record of format 3, and this bench reads format 2: update bench"),
    "older": ('{"format": 1}', "a record of format 1, and this bench reads format 2: make it again"),
    "deep": (DEEP, r"damaged \(Invalid JSON: recursion limit exceeded"),
    "deep below format": ('{"format": 3, "a": ' + DEEP, r"damaged \(Invalid JSON: recursion limit exceeded"),
    "no UTF-8": ("\udcff", r"damaged \("),
    "NUL": ("\0", r"damaged \("),
    "nothing": ("", r"damaged \("),
}


@pytest.mark.parametrize(("content", "sentence"), ODD.values(), ids=ODD)
def test_a_record_that_cannot_be_used_is_named_and_the_others_are_read(tmp_path, content, sentence):
    store(tmp_path, record())
    (tmp_path / "odd.json").write_text(content, errors="surrogateescape")
    with pytest.warns(UserWarning, match=rf"left out: {tmp_path}/odd.json is {sentence}"):
        assert read_records(tmp_path) == [record()]
    (tmp_path / name_of(record())).unlink()
    with pytest.raises(NotComparableError, match=rf"no record in {tmp_path} can be used: {tmp_path}/odd.json is"):
        read_records(tmp_path)


def test_a_byte_order_mark_changes_no_record(tmp_path):
    store(tmp_path, record())
    path = tmp_path / name_of(record())
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_records(tmp_path) == [record()]


def test_of_many_odd_records_a_few_are_named(tmp_path):
    store(tmp_path, record())
    for number in range(8):
        (tmp_path / f"{number}.json").write_text("{")
    warned = []
    read_records(tmp_path, warned.append)
    assert len(warned) == 6 and warned[-1] == "left out: 3 more files"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "out", "large"])
def test_what_is_no_regular_file_of_bounded_size_is_not_read(tmp_path, monkeypatch, kind):
    folder = tmp_path / "folder"
    store(folder, record())
    path = folder / "odd.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        monkeypatch.setattr("bench.records.store.LARGEST_RECORD_BYTES", 2000)
        path.write_text(" " * 2001)
    else:
        (tmp_path / "outside").write_text(record().model_dump_json())
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "outside")
    with pytest.warns(UserWarning, match=rf"left out: cannot read {path}: (not a|larger than|a symbolic link)"):
        assert read_records(folder) == [record()]


def changed(record, path, value):
    """The record's JSON with another value at a place such as "memory.cards.0.edges"."""
    values = json.loads(record.model_dump_json())
    *places, last = path.split(".")
    inner = values
    for place in places:
        inner = inner[int(place) if isinstance(inner, list) else place]
    inner[int(last) if isinstance(inner, list) else last] = value
    return json.dumps(values)


HUGE = 10**40
ODD_VALUES = [
    ("memory.cards", []),
    ("memory.cards.0.edges", {}),
    ("memory.cards.0.edges", {"low": EDGE}),
    ("memory.cards.0.card", "$\\frac{$"),
    ("memory.cards.1.card", "8GB"),
    ("memory.cards.0.usable_bytes", -1),
    ("memory.cards.0.usable_bytes", 0),
    ("memory.cards.0.edges.high.largest_batch", HUGE),
    ("memory.cards.0.edges.high.largest_batch", -1),
    ("memory.cards.0.edges.high.peak_allocated_bytes", -1),
    ("memory.cards.0.edges.high.not_fitting", [-1]),
    ("memory.peak_bytes_per_image", {}),
    ("memory.peak_bytes_per_image", {"high": -1, "low": 1}),
    ("memory.parameter_bytes", HUGE),
    ("parameters", None),
    ("parameters.paper", -1),
    ("settings", {}),
    ("settings.memory", {}),
    ("settings.model.stages", []),
    ("settings.training", {"loss": 3}),
    ("image_shape", [0]),
    ("seconds", -1.0),
    ("seconds", float("nan")),
    ("status", "failed"),
    ("reason", "but why"),
    ("memory", None),
    ("stage", "profile"),
    ("sequence", -1),
    ("provenance.created", "yesterday"),
    ("provenance.created", "2026-01-01T00:00:00"),
    ("key", "../x"),
    ("task", "a/b"),
    ("architecture", ""),
]


@pytest.mark.parametrize(("path", "value"), ODD_VALUES, ids=[f"{path}={value}"[:60] for path, value in ODD_VALUES])
def test_an_odd_record_of_memory_is_damaged(tmp_path, path, value):
    good = memory("8GB", "10GB")
    file = tmp_path / name_of(good)
    file.write_text(good.model_dump_json())
    assert read_record(file) == good
    file.write_text(changed(good, path, value))
    with pytest.raises(StorageError, match=f"{file} is damaged") as refused:
        read_record(file)
    assert "\n" not in str(refused.value)


def test_a_failure_without_a_reason_is_damaged(tmp_path):
    file = tmp_path / name_of(record())
    file.write_text(changed(record(), "reason", None))
    with pytest.raises(StorageError, match="expected the reason of what failed"):
        read_record(file)


def test_categories_of_memory_are_those_that_are_explained():
    from bench.memory.explaining.explain import RESERVED

    assert tuple(category.value for category in RESERVED) == CATEGORIES


def test_a_folder_without_records(tmp_path):
    with pytest.raises(NotComparableError, match=r"no records in .*: give the output folder of `bench run`"):
        read_records(tmp_path)
    with pytest.raises(UsageError, match=r"there is no folder .*missing: give the output folder of `bench run`"):
        read_records(tmp_path / "missing")
