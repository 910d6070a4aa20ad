"""The tool that changes the code to see whether a test notices: python -m tools.mutation."""

import ast
import gc
import subprocess
from types import FunctionType, SimpleNamespace

import pytest

from tools.mutation import packages, survivors
from tools.mutation.in_place import put
from tools.mutation.mutants import mutants

SOURCE = '''\
"""Docstring."""
import math

LIMIT: int = 10


def first(items, n=2):
    """Docstring."""
    if n < 0:
        raise ValueError(f"got {n + 1}")
    return items[:n] if items else None


def largest(items):
    total = 0
    for item in items:
        total += max(item, 0.5)
    return None
'''


def test_changes_of_a_file(tmp_path):
    (tmp_path / "file.py").write_text(SOURCE)
    made = mutants(tmp_path, "file.py")
    assert [(mutant.line, mutant.change, mutant.is_local) for mutant in made] == [
        (4, "10 -> 11", False),
        (7, "2 -> 3", False),
        (9, "0 -> 1", True),
        (10, "dropped: raise ValueError(f'got {n + 1}')", True),
        (11, "items[:n] if items else None -> items[:n] if not items else None", True),
        (15, "0 -> 1", True),
        (17, "0.5 -> 1.5", True),
        (17, "dropped: total += max(item, 0.5)", True),
        (17, "max(item, 0.5) -> min(item, 0.5)", True),
    ]
    lines = SOURCE.splitlines()
    for mutant in made:
        assert mutant.text == lines[mutant.line - 1].strip()
        changed = mutant.source.splitlines()
        ast.parse(mutant.source)
        assert changed != lines and changed[: mutant.line - 1] == lines[: mutant.line - 1]
    by_change = {mutant.change: mutant for mutant in made}
    assert by_change["max(item, 0.5) -> min(item, 0.5)"].source == SOURCE.replace("max(item", "(min(item").replace(
        "0.5)", "0.5))"
    )
    assert by_change["0.5 -> 1.5"].lines == by_change["dropped: total += max(item, 0.5)"].lines == (17, 17)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("if a == b: raise E", {"dropped: raise E"}),
        ("if a == b: x = c", {"dropped: if a == b: ..."}),
        ("if a == b:\n    x = c\nelse:\n    x = d", {"a == b -> a != b"}),
        ("if a < b and not c: x = d",
         {"a < b -> a <= b", "a < b and (not c) -> a < b or not c", "dropped: if a < b and (not c): ..."}),
        ("if a is b or c: x = d",
         {"a is b -> a is not b", "a is b or c -> a is b and c", "dropped: if a is b or c: ..."}),
        ("x = a < 3", {"3 -> 4"}),
        ("x = a > 3", {"3 -> 4", "a > 3 -> a >= 3"}),
        ("x = 3 < a", {"3 -> 4", "3 < a -> 3 <= a"}),
        ("x = 3 <= a", {"3 -> 4"}),
        ("x = a < 0.5", {"0.5 -> 1.5", "a < 0.5 -> a <= 0.5"}),
        ("x = a in (1, b)", {"1 -> 2"}),
        ("x = 1 < a < b", {"1 -> 2", "1 < a < b -> 1 <= a < b", "1 < a < b -> 1 < a <= b"}),
        ("x = a * 2 + b", {"2 -> 3", "a * 2 + b -> a * 2 - b"}),
        ("x = -1, 2 * 2**10, -a", {"-1 -> 0", "2 * 2 ** 10 -> 2049", "-a -> a"}),
        ("x = a if b == c else d", {"b == c -> b != c"}),
        ("x = a if b else d", {"a if b else d -> a if not b else d"}),
        ("x += a", {"dropped: x += a"}),
        ("x[a] = b", {"dropped: x[a] = b"}),
        ("return a", {"return a -> return None"}),
        ("return a + b", {"a + b -> a - b"}),
        ("return a == b", {"a == b -> a != b", "return a == b -> return None"}),
    ],
)  # fmt: skip
def test_what_another_change_implies_is_left_out(tmp_path, statement, expected):
    lines = "".join(f"    {line}\n" for line in statement.splitlines())
    (tmp_path / "file.py").write_text(f"def f():\n{lines}")
    assert {mutant.change for mutant in mutants(tmp_path, "file.py")} == expected


def test_the_same_change_twice_in_a_line_is_told_apart(tmp_path):
    (tmp_path / "file.py").write_text("ä = [1, 1, 'ö', a + b]\n")
    made = {mutant.change: mutant.source for mutant in mutants(tmp_path, "file.py")}
    assert made["1 -> 2"] == "ä = [(2), 1, 'ö', a + b]\n"
    assert made["1 -> 2 (the 2. on its line)"] == "ä = [1, (2), 'ö', a + b]\n"
    assert made["a + b -> a - b"] == "ä = [1, 1, 'ö', (a - b)]\n"


def test_accepted_changes_are_those_of_the_code():
    """If this fails, a line has changed whose change was accepted: is the reason still right?"""
    accepted = survivors.read(survivors.PATH)
    assert accepted and all(accepted.values())
    changed = {survivor.file for survivor in accepted}
    assert changed <= {file for package in packages.TESTS for file in packages.files(package)}
    made = [mutant for file in changed for mutant in mutants(packages.ROOT, file)]
    assert survivors.stale(accepted, made, sorted(changed)) == []


def test_a_file_can_be_accepted_in_part_or_whole(tmp_path):
    (tmp_path / "file.py").write_text("def f():\n    return 1\n")
    *_, mutant = mutants(tmp_path, "file.py")
    for change, covered, uncovered in (('["*"]', "all", "all"), (None, None, "all"), ('["other"]', None, None)):
        (tmp_path / "accepted.toml").write_text(
            '[[survivor]]\nfile = "file.py"\nreason = "all"\n' + (f"changes = {change}\n" if change else "")
        )
        accepted = survivors.read(tmp_path / "accepted.toml")
        told = [survivors.reason(accepted, mutant, is_covered=is_covered) for is_covered in (True, False)]
        assert told == [covered, uncovered]


IN_PLACE = """\
def twice(function):
    return lambda n: function(n) + function(n)


@twice
def third(n):
    return n // 3


def closed(a):
    def inner(b):
        return a + b
    return inner


pair = (lambda n: n + 1, lambda n: n + 2)
"""


def imported(path):
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return SimpleNamespace(**names)


def changed(mutant):
    return mutant.source, mutant.line


def test_changes_take_the_place_of_functions_that_exist(tmp_path):
    path = tmp_path / "imported.py"
    path.write_text(IN_PLACE)
    module = imported(path)
    made = {mutant.change: mutant for mutant in mutants(tmp_path, "imported.py") if mutant.is_local}
    functions = [one for one in gc.get_objects() if type(one) is FunctionType]

    assert module.third(9) == 6
    assert put(functions, str(path), *changed(made["3 -> 4"])) and module.third(9) == 4
    assert put(functions, str(path), *changed(made["function(n) + function(n) -> function(n) - function(n)"]))
    assert module.third(9) == 0
    assert put(functions, str(path), *changed(made["a + b -> a - b"])) and module.closed(5)(3) == 2
    elsewhere = tmp_path / "elsewhere.py"
    assert (
        put(functions, str(elsewhere), *changed(made["return inner -> return None"])) and module.closed(5) is not None
    )


def test_a_change_that_cannot_take_the_place_of_a_function_is_told(tmp_path):
    """Another set of outer variables, or two functions that begin in one line."""
    path = tmp_path / "imported.py"
    path.write_text(IN_PLACE)
    module = imported(path)
    *_, first = (mutant for mutant in mutants(tmp_path, "imported.py") if mutant.change == "1 -> 2")
    assert not put(module.pair, str(path), *changed(first))
    inner = module.closed(5)
    without = IN_PLACE.replace("return a + b", "return b"), 12
    assert not put([inner], str(path), *without) and inner(3) == 8


def test_what_no_test_notices_is_printed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("coverage")
    from tools.mutation import __main__ as tool

    (tmp_path / "limits").mkdir()
    (tmp_path / "limits/limits.py").write_text(
        "LEAST = 5\n\ndef is_large(n):\n    return n > 9\n\ndef double(n):\n    return n + n\n\n"
        "NAMES = []\n\ndef known(function):\n    NAMES.append(function.__name__)\n    return function\n\n"
        "@known\ndef named():\n    pass\n"
    )
    (tmp_path / "test_limits.py").write_text(
        "from limits.limits import LEAST, NAMES, is_large, named\n\n"
        "def test_names():\n    assert NAMES == ['named'] and named() is None\n\n"
        "def test_least():\n    assert LEAST == 5\n\n"
        "def test_large():\n    assert is_large(11) and not is_large(8)\n"
    )
    (tmp_path / "conftest.py").write_text("import gc\n\ndef pytest_collection_finish():\n    gc.freeze()\n")
    (tmp_path / "accepted.toml").write_text(
        '[[survivor]]\nfile = "limits/limits.py"\nreason = "Needs a GPU."\n\n'
        '[[survivor]]\nfile = "limits/limits.py"\nline = "return n > 9"\nchanges = ["9 -> 10"]\nreason = "Equal."\n'
    )
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    monkeypatch.setattr(packages, "TESTS", {"limits": ("test_limits.py",)})
    monkeypatch.setattr(tool, "warm_up", lambda: None)
    arguments = ["--jobs", "1", "--survivors", str(tmp_path / "accepted.toml")]
    assert tool.main(arguments) == 1
    assert capsys.readouterr().out.splitlines() == [
        "limits/limits.py:4: n > 9 -> n >= 9 (survived)",
        "limits: 7 changes: 4 killed, 2 survived, 0 timed out, 1 not covered; 2 of those not noticed are accepted",
    ]
    printed = tmp_path / "printed.txt"
    another = "limits/limits.py:1: 5 -> 6 (the 2. on its line) (survived)"
    printed.write_text(f"limits/limits.py:4: n > 9 -> n >= 9 (survived)\n{another}\nlimits: 7 changes: 4 killed\n")
    assert tool.main([*arguments, "--again", str(printed)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "limits/limits.py:4: n > 9 -> n >= 9 (survived)",
        "limits: 1 changes: 0 killed, 1 survived, 0 timed out, 0 not covered; 0 of those not noticed are accepted",
    ]
    assert (tmp_path / "limits/limits.py").read_text().startswith("LEAST = 5")
    assert tool.main([*arguments, "--most-minutes", "0"]) == 0
    assert capsys.readouterr().out == ""

    (tmp_path / "test_limits.py").write_text("def test_fails():\n    assert False\n")
    assert tool.main(arguments) == 2
    said = capsys.readouterr().err
    assert "tests fail without a change" in said and "FAILED test_limits.py::test_fails" in said
