"""The JSON schemas: current, complete, and of what the files really hold."""

import json
import sys
from pathlib import Path

import pytest

from bench.config import FILE_NAME

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FILES = {"config": ROOT / "schemas/bench.schema.json", "record": ROOT / "schemas/record.schema.json"}
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def fits(value, schema, whole):
    """Whether a value is as a schema says, by the rules of JSON schema that these files use for types."""
    if "$ref" in schema:
        return fits(value, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], whole)
    if "anyOf" in schema and not any(fits(value, each, whole) for each in schema["anyOf"]):
        return False
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return False
    kind = schema.get("type")
    if kind == "null":
        return value is None
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        if not set(schema.get("required", ())) <= set(value):
            return False
        inner = [(each, known.get(name, other)) for name, each in value.items()]
        return all(of if isinstance(of, bool) else fits(each, of, whole) for each, of in inner)
    if isinstance(value, list) and "items" in schema:
        return all(fits(each, schema["items"], whole) for each in value)
    return True


def read(what):
    return json.loads(FILES[what].read_text())


@pytest.mark.parametrize("what", FILES)
def test_the_files_are_what_bench_prints(bench, what):
    done = bench("schema", what)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == read(what), f"bench schema {what} > {FILES[what].relative_to(ROOT)} renews it"


def test_the_default_suite_names_its_schema_and_fits_it():
    text = (ROOT / FILE_NAME).read_text()
    first = text.splitlines()[0]
    assert first.startswith("#:schema ") and (ROOT / first.removeprefix("#:schema ")).samefile(FILES["config"])
    assert fits(tomllib.loads(text), read("config"), read("config"))


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("", True),
        ("[suite]\ngpus = ['RTX 3080']", True),
        ("[model.solver]\nmax_evaluations = 10", True),
        ("[preset.demo.timing]\nbatch = 2", True),
        ("[cards.mine]\ntotal = '20GiB'", True),
        ("[suite]\ncolour = 1", False),
        ("[suite]\ngpus = 'RTX 3080'", False),
        ("[memory]\nengine = 'guess'", False),
        ("[preset.demo.timing]\nbatches = 2", False),
        ("[training]\nlearning_rate = true", False),
    ],
)
def test_a_file_needs_only_what_it_changes_and_has_no_other_keys(text, is_right):
    assert fits(tomllib.loads(text), read("config"), read("config")) is is_right


def test_stored_records_fit_theirs():
    paths = sorted((ROOT / "results/demo/records").glob("*.json"))
    assert {json.loads(path.read_text())["stage"] for path in paths} == {"memory", "profile", "timing", "accuracy"}
    schema = read("record")
    for path in paths:
        record = json.loads(path.read_text())
        assert fits(record, schema, schema), path.name
        assert not fits({name: part for name, part in record.items() if name != "stage"}, schema, schema)
        assert not fits(record | {"colour": 1}, schema, schema)
