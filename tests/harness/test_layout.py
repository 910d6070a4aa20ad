"""Imports run one way: operators <- models <- bench.cells.workload <- bench.cells.suite <- bench.commands.

bench.memory stands alone.
"""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = tuple(f"bench.regression.{name}" for name in ("gate", "growth", "measured", "verdicts"))
ALLOWED = {
    "operators": ("bench.operators",),
    "models": ("bench.operators", "bench.models"),
    "bench/memory": ("bench.memory", "bench.units"),
    "bench/report": (
        "bench.report",
        "bench.fitting",
        "bench.files",
        "bench.records",
        "bench.strategies.naming",
        "bench.module_names",
        "bench.histories.matching",
        "bench.memory.explaining.explain",
        "bench.memory.gpus",
        "bench.planning",
        "bench.units",
        *PURE,
    ),
    "bench/records": ("bench.records", "bench.errors", "bench.files", "bench.names", "bench.units"),
    "bench/data": ("bench.data", "bench.errors", "bench.extras", "bench.operators"),
}


def imports(tree, package=()):
    """Names of all modules that a file imports; `package` is where its relative imports start from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            yield ".".join([*above, *filter(None, [node.module])])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def package_of(path):
    parts = path.relative_to(ROOT).parent.parts
    return parts if parts[0] == "bench" else ("bench", *parts)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    ours = [
        (path, name)
        for path in files
        for name in imports(ast.parse(path.read_text()), package_of(path))
        if name.split(".")[0] == "bench"
    ]
    assert ours
    wrong = [(path, name) for path, name in ours if not name.startswith(ALLOWED[folder])]
    assert not wrong


EXTRAS = ("torchmetrics", "skimage", "sklearn", "PIL", "h5py", "pydicom", "nrrd", "pyarrow", "submitit", "pytest")
EXTRAS += ("lightning", "transformers")
NEED_AN_EXTRA = (
    "bench/accuracy",
    "bench/data",
    "bench/execution/slurm.py",
    "bench/pytest_plugin.py",
    "bench/integrations/lightning.py",
    "bench/integrations/transformers.py",
    "bench/report/formats/parquet.py",
)


def test_what_needs_no_extra_does_without():
    """Modules outside these import nothing that an installation without extras lacks, but inside functions."""
    ours = [path for folder in ("bench", "models", "operators") for path in (ROOT / folder).rglob("*.py")]
    plain = [path for path in ours if not path.relative_to(ROOT).as_posix().startswith(NEED_AN_EXTRA)]
    assert len(plain) > 100
    found = []
    for path in plain:
        tree = ast.parse(path.read_text())
        at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        found += [(path, name) for name in imports(at_import) if name.split(".")[0] in EXTRAS]
    assert not found


def imported_at_once(path, known):
    """The modules of ours that a file imports while it is itself imported; what only type checkers read is left out."""
    tree = ast.parse(path.read_text())
    at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    names = set()
    for node in ast.walk(at_import):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    # `from package import module` needs the module; the package itself only for names of its own.
    packages = {name.rpartition(".")[0] for name in names if name in known}
    return {name for name in names if name in known and not (name in packages and known[name].name == "__init__.py")}


def test_no_module_imports_itself_by_way_of_others():
    files = list((ROOT / "bench").rglob("*.py"))
    known = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        known[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {name: imported_at_once(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > 500
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
