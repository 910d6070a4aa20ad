"""Imports run one way: operators <- models <- bench.workload <- bench.suite <- bench.commands.

bench.memory stands alone.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = ("bench.regression.growth", "bench.regression.measured", "bench.regression.verdicts")
ALLOWED = {
    "operators": ("operators",),
    "models": ("operators", "models"),
    "bench/memory": ("bench.memory", "bench.units"),
    "bench/report": (
        "bench.report",
        "bench.records",
        "bench.module_names",
        "bench.memory.explain",
        "bench.units",
        *PURE,
    ),
    "bench/data": ("bench.data", "bench.errors", "operators"),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    ours = [
        (path, name)
        for path in files
        for name in imports(path)
        if name.split(".")[0] in ("bench", "models", "operators")
    ]
    wrong = [(path, name) for path, name in ours if not name.startswith(ALLOWED[folder])]
    assert not wrong
