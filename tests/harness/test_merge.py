"""Output folders put together: nothing lost, nothing twice, no conflict passed over."""

import json
import os

import pytest

RECORD = {
    "format": 2,
    "stage": "memory",
    "preset": None,
    "image_shape": [3, 8, 8],
    "paper_task": None,
    "settings": {
        "model": {"stages": 4, "gradient": "one-graph", "solver": {"max_evaluations": 8}},
        "memory": {"engine": "simulated", "steps": 2, "alloc_conf": ""},
        "training": {"loss": "final"},
        "task": {"operator": "GaussianBlur", "options": {}},
    },
    "status": "ok",
    "reason": None,
    "seconds": 1.5,
    "parameters": {"trainable": 10, "paper": 11},
    "provenance": {
        "bench": "0.3.0",
        "source": "abc",
        "commit": None,
        "torch": "2.13.0",
        "python": "3.11",
        "platform": "Linux x86_64",
        "created": "2024-01-01T00:00:00+00:00",
    },
}


def card(name, largest_batch=7):
    edge = {
        "largest_batch": largest_batch,
        "peak_allocated_bytes": 100,
        "peak_reserved_bytes": 120,
        "retries": 0,
        "fallbacks": 0,
        "not_fitting": [largest_batch + 1],
        "monotone": True,
    }
    sizes = {"total_bytes": 2**33, "context_bytes": 2**29, "usable_bytes": 2**33 - 2**29}
    return {"card": name, **sizes, "cudnn": None, "edges": {"high": edge, "low": edge}, "virtual": None}


def memory(*cards, key="m1", **changed):
    """A record of the stage memory."""
    results = {
        "engine": "simulated",
        "recorded_steps": 2,
        "recorded_evaluations": 10,
        "events": 5,
        "operator_bytes": 0,
        "parameter_bytes": 40,
        "peak_bytes_per_image": {"high": 2**20, "low": 2**19},
        "cards": list(cards or [card("8GB")]),
    }
    return RECORD | {"key": key, "task": "blur", "architecture": "LUSER-SW", "memory": results} | changed


def timing(step_seconds=0.5, key="t1", **changed):
    """A record of the stage timing."""
    results = {
        "device": "CPU",
        "threads": 1,
        "batch": 2,
        "batch_chosen": "stated",
        "training_step_seconds": [step_seconds, 0.5, 0.6],
        "evaluation_seconds": [0.1, 0.1, 0.1],
        "training_calls": {"forward": 3, "adjoint": 3},
        "evaluation_calls": {"forward": 2, "adjoint": 2},
        "solver_evaluations": None,
        "backward_evaluations": None,
        "peak_bytes_per_image": None,
        "gradient_bias": None,
    }
    names = {"key": key, "task": "blur", "architecture": "LUSER-SW", "stage": "timing", "preset": "tiny"}
    return RECORD | names | {"timing": results} | changed


def name_of(record):
    return "--".join(record[name] for name in ("task", "architecture", "stage", "key")) + ".json"


def elsewhere(record, torch="2.13.0"):
    """The same results, made on another machine at another time."""
    made = {"created": "2024-02-02T00:00:00+00:00", "python": "3.12", "commit": "0a1b", "torch": torch}
    return record | {"seconds": 9.0, "provenance": record["provenance"] | made}


@pytest.fixture
def folder(tmp_path):
    """Make an output folder with records."""

    def folder(name, *records):
        stored = tmp_path / name / "records"
        stored.mkdir(parents=True)
        for record in records:
            (stored / name_of(record)).write_text(json.dumps(record))
        return name

    return folder


@pytest.fixture
def merge(bench, tmp_path):
    """Merge into the folder `whole`: the command's result, and the records that are there."""

    def merge(*arguments):
        result = bench("merge", *arguments, "--output", "whole")
        stored = [path for path in (tmp_path / "whole/records").glob("*.json") if not path.is_symlink()]
        return result, {path.name: json.loads(path.read_text()) for path in stored}

    return merge


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def refused(result, *messages):
    assert result.returncode == 2, result
    assert result.stderr.startswith("bench: ") and result.stderr.count("\n") == 1
    for message in messages:
        assert message in result.stderr


def test_shards_together_are_the_run(bench, merge, tmp_path):
    run = ("run", "--architecture", "LUSER-SW")
    whole = bench(*run, "--output", "all")
    bench(*run, "--shard", "1/2", "--output", "one")
    bench(*run, "--shard", "2/2", "--output", "two")
    result, records = merge("one", "two")
    assert (result.returncode, result.stdout) == (0, whole.stdout)
    assert (tmp_path / "whole/table3.md").read_text() == whole.stdout
    expected = {path.name: json.loads(path.read_text()) for path in (tmp_path / "all/records").glob("*.json")}
    assert records.keys() == expected.keys()
    assert all(records[name]["memory"] == expected[name]["memory"] for name in expected)
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["records", "table3.csv", "table3.md"]


def test_equal_records_are_there_once(folder, merge):
    result, records = merge(folder("a", memory(), timing()), folder("b", elsewhere(memory())), folder("c", timing()))
    assert result.returncode == 0, result.stderr
    (of_memory,) = (record for record in records.values() if record["stage"] == "memory")
    (of_timing,) = (record for record in records.values() if record["stage"] == "timing")
    assert of_memory["memory"] == memory()["memory"]
    assert of_memory["seconds"] == of_timing["seconds"] == 1.5
    assert of_timing["timing"] == timing()["timing"]


def test_memory_of_different_cards_is_united(folder, merge):
    a = folder("a", memory(card("8GB"), card("10GB", 9)))
    b = folder("b", elsewhere(memory(card("24GB", 23), card("8GB"))))
    result, records = merge(a, b)
    (record,) = records.values()
    assert record["memory"]["cards"] == [card("8GB"), card("10GB", 9), card("24GB", 23)]
    assert [line.split("|")[2].strip() for line in result.stdout.splitlines()[3:6]] == ["8GB", "10GB", "24GB"]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (memory(), memory(card("8GB", 6)), "memory.cards.8GB.edges.high.largest_batch (7 and 6)"),
        (memory(), memory() | {"parameters": {"trainable": 12, "paper": 11}}, "parameters.trainable (10 and 12)"),
        (timing(0.5), timing(0.4), "timing.training_step_seconds.0 (0.5 and 0.4)"),
        (timing(), timing() | {"seconds": 1.6}, "seconds (1.5 and 1.6)"),
        (timing(), elsewhere(timing()) | {"seconds": 1.5}, "provenance.commit (None and 0a1b)"),
    ],
)
def test_a_conflict_is_refused_and_nothing_is_written(folder, merge, one, other, difference):
    result, records = merge(folder("a", one), folder("b", other))
    files = (os.path.join(name, "records", name_of(one)) for name in "ab")
    refused(result, " and ".join(files), f"differ in {difference}: keep one of them")
    assert not records


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_failure_gives_way_to_a_result(folder, merge, order):
    failed = memory() | {"status": "failed", "reason": "killed", "memory": None, "parameters": None}
    folder("a", failed)
    folder("b", memory())
    _, records = merge(*order)
    assert [record["status"] for record in records.values()] == ["ok"]


def test_other_torch_versions_are_other_cells_without_a_common_table(folder, merge, tmp_path):
    newer = elsewhere(memory(key="m2"), torch="2.14.0")
    result, records = merge(folder("a", memory()), folder("b", newer))
    assert result.returncode == 0
    assert len(records) == 2
    assert "no table of the stage memory: LUSER-SW on blur has several results (torch 2.13.0 and 2.14.0)" in (
        result.stderr
    )
    assert not (tmp_path / "whole/table3.md").exists()


def test_reconstructions_and_checkpoints_come_along(folder, merge, tmp_path):
    folder("a", memory(), timing())
    names = ["reconstructions/blur--LUSER-SW--t1.safetensors", "checkpoints/blur--LUSER-SW--t1--seed0.pt"]
    for name in (*names, "checkpoints/blur--LUSER-SW--other--seed0.pt"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(name.encode())
    merge("a")
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == name.encode()
    assert len(list((tmp_path / "whole/checkpoints").iterdir())) == 1


CELLS = {"t1": "blur--LUSER-SW", "t2": "knee--LUSER-SW"}


def test_one_of_the_folders_can_be_the_output(folder, bench, tmp_path):
    folder("a", memory(), timing())
    folder("b", memory(card("10GB", 9)), timing(key="t2", task="knee"))
    for name, key in (("a", "t1"), ("b", "t2")):
        (tmp_path / name / "checkpoints").mkdir()
        (tmp_path / name / f"checkpoints/{CELLS[key]}--{key}--seed0.pt").write_text(key)
    result = bench("merge", "a", "b", "--output", "b", "--force")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "checkpoints",
        "records",
        *(f"{table}.{suffix}" for table in ("table3", "table4", "timing") for suffix in ("csv", "md")),
    ]
    assert sorted(path.name for path in (tmp_path / "b/checkpoints").iterdir()) == [
        "blur--LUSER-SW--t1--seed0.pt",
        "knee--LUSER-SW--t2--seed0.pt",
    ]
    kept = json.loads((tmp_path / "b/records/blur--LUSER-SW--memory--m1.json").read_text())
    assert kept["memory"]["cards"] == [card("8GB"), card("10GB", 9)]


def test_nothing_is_overwritten_without_force(folder, merge, tmp_path):
    merge(folder("a", memory()))
    before = files(tmp_path / "whole")
    assert merge("a")[0].returncode == 0  # the same content is in nobody's way
    b = folder("b", memory(card("8GB", 6)))
    refused(merge(b)[0], "whole has another records/blur--LUSER-SW--memory--m1.json and 2 more: give --force")
    assert files(tmp_path / "whole") == before
    result, records = merge(b, "--force")
    assert result.returncode == 0
    assert [record["memory"]["cards"] for record in records.values()] == [[card("8GB", 6)]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 3}, "is a record of format 3, and this bench reads format 2: update bench"),
        ({"format": 1}, "is a record of format 1, and this bench reads format 2: make it again"),
        ({"key": 1}, "is damaged (key: Input should be a valid string)"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(folder, merge, tmp_path, content, message):
    folder("b")
    (tmp_path / "b/records" / name_of(memory())).write_text(json.dumps(memory() | content))
    refused(merge(folder("a", memory()), "b")[0], f"b/records/{name_of(memory())} {message}")


def test_folders_without_records(folder, merge, tmp_path):
    (tmp_path / "bare").mkdir()
    refused(merge("bare")[0], "bare is no output folder of `bench run`: it has no folder records")
    refused(merge("nowhere")[0], "nowhere is no output folder of `bench run`")
    refused(merge(folder("a"), folder("b"))[0], "nothing to merge: no records in a, b")
    (tmp_path / "a/records/half.json").write_text('{"format"')
    refused(merge("a")[0], "a/records/half.json is damaged")
    assert not (tmp_path / "whole").exists()


EVIL = {
    "key": ["x/../../../../victim/settings", "", "../../x"],
    "task": ["../../x", "a/b", "/tmp/x", "a--b", "CON", "x" * 65],
    "architecture": ["../../x", "a\\b", "a\0", "-"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in EVIL.items() for text in texts])
def test_no_record_decides_where_its_file_goes(folder, merge, tmp_path, name, text):
    folder("a", memory())
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/settings.json").write_text("mine")
    stored = tmp_path / "a/records" / name_of(memory())
    stored.write_text(json.dumps(memory() | {name: text}))
    before = files(tmp_path)
    refused(merge("a", "--force")[0], f"a/records/{stored.name} is damaged ({name}: ")
    assert files(tmp_path) == before


def test_a_record_that_says_it_is_another_cell_is_refused(folder, merge, tmp_path):
    folder("a", memory())
    (tmp_path / "a/records" / name_of(memory())).rename(tmp_path / "a/records/knee--LUSER-SW--memory--m1.json")
    says = (
        "a/records/knee--LUSER-SW--memory--m1.json has the record in it whose name is blur--LUSER-SW--memory--m1.json"
    )
    refused(merge("a")[0], says)


@pytest.mark.parametrize("link", ["records", "records/blur--LUSER-SW--memory--m1.json"])
def test_links_out_of_a_folder_are_not_read(folder, merge, tmp_path, link):
    folder("a", memory())
    (tmp_path / "a" / link).rename(tmp_path / "elsewhere")
    (tmp_path / "a" / link).symlink_to(tmp_path / "elsewhere")
    refused(merge("a")[0], "cannot read a/records/blur--LUSER-SW--memory--m1.json: a symbolic link leads out of a")


@pytest.mark.parametrize("link", ["records", "table3.md", "records/blur--LUSER-SW--memory--m1.json"])
def test_links_out_of_the_output_are_not_written_through(folder, merge, tmp_path, link):
    folder("a", memory())
    outside = tmp_path / "outside"
    (tmp_path / "whole/records").mkdir(parents=True)
    if link == "records":
        outside.mkdir()
        (tmp_path / "whole/records").rmdir()
    else:
        outside.write_text("mine")
    (tmp_path / "whole" / link).symlink_to(outside)
    before = files(tmp_path)
    refused(merge("a", "--force")[0], f"whole/{link}")
    assert files(tmp_path) == before


def test_a_record_of_a_newer_bench_is_not_overwritten_even_with_force(folder, merge, tmp_path):
    folder("a", memory())
    (tmp_path / "whole/records").mkdir(parents=True)
    newer = tmp_path / "whole/records" / name_of(memory())
    newer.write_text('{"format": 3}')
    refused(merge("a", "--force")[0], f"whole/records/{newer.name} is a record of format 3")
    assert newer.read_text() == '{"format": 3}'


def test_the_output_that_is_one_of_the_folders_needs_no_force_and_a_folder_given_twice_is_one(folder, merge, tmp_path):
    folder("whole", memory())
    folder("b", memory(card("10GB", 9)), timing())
    result, records = merge("whole", "b", "./b", "whole/")
    assert result.returncode == 0, result.stderr
    assert records[name_of(memory())]["memory"]["cards"] == [card("8GB"), card("10GB", 9)]
    before = files(tmp_path / "whole")
    assert merge("whole", "b")[0].returncode == 0
    assert files(tmp_path / "whole") == before


def test_what_a_killed_merge_left_is_cleared_away(folder, merge, tmp_path):
    folder("a", memory())
    folder("whole", memory())
    (tmp_path / "whole/.merge-abcd_123/records").mkdir(parents=True)
    merge("a")
    assert not (tmp_path / "whole/.merge-abcd_123").exists()


def test_the_newest_of_several_folders_is_that_of_the_latest_clock_and_within_one_of_the_largest_count(folder, merge):
    """Of a's records m1 came first, whatever its clock says; b's is from between the two clocks of a."""
    made = [memory()["provenance"] | {"created": f"2024-0{month}-01T00:00:00+00:00"} for month in (5, 1, 3)]
    first = memory(key="m1") | {"sequence": 4, "provenance": made[0]}
    second = memory(key="m2") | {"sequence": 5, "provenance": made[1]}
    folder("a", first, second)
    folder("b", memory(key="m3") | {"sequence": 1, "provenance": made[2]})
    _, records = merge("a", "b")
    assert [record["key"] for record in sorted(records.values(), key=lambda each: each["sequence"])] == [
        *("m3", "m1", "m2"),
    ]
