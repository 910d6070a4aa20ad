"""A baseline's file: what is written and what is read, and what is refused."""

import codecs
import json
from math import inf

import handmade
import pytest
from pydantic import ValidationError

from bench.errors import NotComparableError, UsageError
from bench.records import Composition
from bench.regression import baseline
from bench.regression.measured import Measured, Quantity


def cell(architecture="LU-DnCNN", stage="memory", quantities=(), composition=None, **conditions):
    return Measured(
        task="ct",
        architecture=architecture,
        stage=stage,
        conditions=conditions,
        quantities=quantities,
        composition=composition,
    )


PEAK = Composition(
    batch=2,
    peak_allocated_bytes=5,
    peak_reserved_bytes=6,
    size_bytes={"rounding": {"in all": 6}},
    places={"rounding": {"in all": ["net.py:3"]}},
)


@pytest.fixture
def file(tmp_path):
    """Write a baseline's text, and give its path."""

    def write(content):
        path = tmp_path / "baseline.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_the_text_to_the_letter():
    """Lines of one number each, any language, no places."""
    batch = Quantity(name="largest_batch", of="8GB, high", value=4, at={"card": "8GB"})
    assert baseline.text([cell("Größe", quantities=(batch,), composition=PEAK, stages=8)]).splitlines() == [
        "{",
        ' "format": 1,',
        ' "cells": [',
        "  {",
        '   "task": "ct",',
        '   "architecture": "Größe",',
        '   "stage": "memory",',
        '   "conditions": {',
        '    "stages": 8',
        "   },",
        '   "failure": null,',
        '   "quantities": [',
        "    {",
        '     "name": "largest_batch",',
        '     "of": "8GB, high",',
        '     "value": 4,',
        '     "at": {',
        '      "card": "8GB"',
        "     }",
        "    }",
        "   ],",
        '   "composition": {',
        '    "batch": 2,',
        '    "peak_allocated_bytes": 5,',
        '    "peak_reserved_bytes": 6,',
        '    "size_bytes": {',
        '     "rounding": {',
        '      "in all": 6',
        "     }",
        "    }",
        "   }",
        "  }",
        " ]",
        "}",
    ]


def test_what_is_written_is_read_in_the_order_of_names_and_then_of_conditions(file):
    """Conditions are ordered whatever the order of their keys."""
    psnr_db = Quantity(name="psnr_db", value=(30.5, inf))
    ordered = [
        cell("A", quantities=(psnr_db,), b=1, a=1),
        cell("A", a=2, b=0),
        cell("A", "timing"),
        cell("B"),
    ]
    assert baseline.read(file(baseline.text(reversed(ordered)))) == tuple(ordered)
    assert baseline.text(ordered) == baseline.text(reversed(ordered))


@pytest.mark.parametrize(
    ("format_", "words"),
    [
        (2, "is a baseline of format 2, and this bench reads format 1: update bench"),
        (0, "is a baseline of format 0, and this bench reads format 1: `bench baseline update` makes it anew"),
        (1, "is no baseline (more: Extra inputs are not permitted): `bench baseline update` makes it anew"),
        ("2", "is no baseline (format: Input should be 1): `bench baseline update` makes it anew"),
        (None, "is no baseline (format: Input should be 1): `bench baseline update` makes it anew"),
    ],
)
def test_another_format(file, format_, words):
    path = file({"format": format_, "cells": [], "more": 1})
    with pytest.raises(UsageError) as error:
        baseline.read(path)
    assert str(error.value) == f"{path} {words}"


def test_where_a_file_is_wrong_is_said_by_its_place(file):
    values = json.loads(baseline.text([cell("A"), cell("B")]))
    values["cells"][1]["task"] = 7
    with pytest.raises(UsageError, match=r"is no baseline \(cells\.1\.task: Input should be a valid string\): "):
        baseline.read(file(values))


def test_a_byte_order_mark_changes_no_baseline(file):
    path = file(baseline.text([cell("A")]))
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert baseline.read(path) == (cell("A"),)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": 2, "cells": ' + "[" * 100_000])
def test_a_file_that_is_nested_without_end_is_no_baseline(file, content):
    with pytest.raises(UsageError, match=r"is no baseline \(Invalid JSON: recursion limit exceeded"):
        baseline.read(file(content))


def test_files_that_are_none(file, tmp_path):
    path = file({"cells": []})
    with pytest.raises(UsageError, match=r"baseline\.json has no cells: `bench baseline update` makes it anew"):
        baseline.read(path)
    with pytest.raises(UsageError, match=r"no baseline at .*missing: `bench baseline update` makes it"):
        baseline.read(tmp_path / "missing")
    with pytest.raises(UsageError, match=rf"cannot read the baseline {tmp_path}: not a regular file"):
        baseline.read(tmp_path)


def test_a_cell_twice_is_one_of_the_same_name_and_conditions(file):
    others = [cell("A"), cell("A", "timing"), cell("A", a=1, b=2), cell("A", a=2, b=1), cell("B")]
    assert len(baseline.read(file(baseline.text(others)))) == 5
    with pytest.raises(UsageError, match=r"has A on ct 2 times: `bench baseline update`"):
        baseline.read(file(baseline.text([*others, cell("A", b=2, a=1)])))


def test_a_set_is_a_file_or_a_folder_of_records(file, tmp_path):
    path = file(baseline.text([cell("A")]))
    assert baseline.read_set(path) == (cell("A"),)
    with pytest.raises(UsageError, match=r"there is no .*missing: give a folder of records"):
        baseline.read_set(tmp_path / "missing")
    handmade.stored(tmp_path / "records", handmade.timing("LU-DnCNN", 1.0, 3.0))
    (measured,) = baseline.read_set(tmp_path / "records")
    assert [quantity.value for quantity in measured.quantities] == [(1.0,) * 3, (3.0,) * 3]
    profile = handmade.failed("profile")
    handmade.stored(tmp_path / "profiles", profile)
    with pytest.raises(NotComparableError, match="its records are of the stage profile alone"):
        baseline.read_set(tmp_path / "profiles")


def test_what_is_read_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        cell("A").task = "mri"
    with pytest.raises(ValidationError, match="frozen"):
        baseline.Baseline(cells=()).cells = (cell("A"),)
