"""Keys of records: which change of the code changes which cells' keys, and what is said of results by earlier code."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench as package
from bench import operators
from bench.accuracy.checkpoint import Checkpoint
from bench.cells import code, suite
from bench.cells.code import LEFT_OUT, Code
from bench.cells.stale import told
from bench.config import load
from bench.errors import UsageError
from bench.memory import card_of_capacity
from bench.operators.base import LinearOperator
from bench.records.store import RecordStore
from bench.stages import memory as stages

STAGES = ("memory", "profile", "timing", "accuracy")
CARDS = (card_of_capacity("8GB"),)


def cells_of(stage, config=None):
    return suite.cells(config or load(preset="demo"), stage=stage, cards=CARDS)


CELLS = [cell for stage in STAGES for cell in cells_of(stage)]
CLASSICAL = ("initialisation", "filtered backprojection", "gradient descent", "total variation")


@pytest.fixture
def copy(tmp_path):
    """The package's folder, somewhere else; models and operators in it instead of links to them."""
    return Path(shutil.copytree(Path(package.__file__).parent, tmp_path / "bench"))


def fingerprints(folder):
    here = Code({"bench": folder})
    return [here.fingerprint(cell.modules) for cell in CELLS]


@pytest.fixture(scope="module")
def before():
    without_backprojection = 3  # all but ct
    assert len(CELLS) == 3 * 12 + 4 * (4 + len(CLASSICAL)) - without_backprojection
    return [cell.source for cell in CELLS]


def add(text):
    return lambda path: path.write_text((path.read_text() if path.exists() else "") + text)


def replace(old, new):
    def change(path):
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))

    return change


def reformatted(path):
    """Other lines, quotes, brackets; no comments."""
    path.write_text("# another layout\n\n" + ast.unparse(ast.parse(path.read_text())).replace("\n", "\n\n"))


def every(change):
    return lambda folder: [change(path) for path in folder.rglob("*.py")]


ARCHITECTURE = """
from bench.models.architectures.base import Architecture
class New(Architecture):
    name = "New"
"""
OPERATOR = """
from .base import LinearOperator
class New(LinearOperator): ...
"""
CHANGED = add("\nCHANGED = 1\n")
FULL_SIZE = {"memory", "profile"}


def is_trained(cell):
    return cell.architecture not in CLASSICAL


@pytest.mark.parametrize(
    ("file", "change", "affects"),
    [
        (".", lambda folder: None, lambda cell: False),
        (".", every(reformatted), lambda cell: False),
        (".", every(add("\n\n# a comment\n")), lambda cell: False),
        (".", every(add('\n"""A text that nothing uses."""\n')), lambda cell: False),
        (".", every(add("\nif TYPE_CHECKING:\n    from bench.commands import run\n")), lambda cell: False),
        ("models/architectures/deq4ip.py", replace('"""DEQ4IP: a', '"""Another: a'), lambda cell: False),
        ("models/empty.py", add(""), lambda cell: False),
        ("models/architectures/empty.py", add(""), lambda cell: False),
        ("models/architectures/new.py", add(ARCHITECTURE), lambda cell: False),
        ("operators/empty.py", add(""), lambda cell: False),
        ("operators/new.py", add(OPERATOR), lambda cell: False),
        ("data/new.py", add("X = 1"), lambda cell: False),
        ("__init__.py", replace('"0.1.0"', '"0.2.0"'), lambda cell: False),
        ("errors.py", CHANGED, lambda cell: False),
        ("records/record.py", CHANGED, lambda cell: False),
        ("report/tables/table3.py", CHANGED, lambda cell: False),
        ("accuracy/checkpoint.py", CHANGED, lambda cell: False),
        ("data/fetch.py", CHANGED, lambda cell: False),
        ("data/celeba.py", CHANGED, lambda cell: False),
        ("memory/explaining/snapshot.py", CHANGED, lambda cell: False),
        ("models/architectures/deq4ip.py", CHANGED, lambda cell: cell.architecture == "DEQ4IP"),
        ("models/architectures/lu_dncnn.py", CHANGED, lambda cell: cell.architecture == "LU-DnCNN"),
        ("models/architectures/luser.py", CHANGED, lambda cell: cell.architecture.startswith("LUSER")),
        ("models/luser_block.py", CHANGED, lambda cell: cell.architecture.startswith("LUSER")),
        ("models/dncnn.py", CHANGED, lambda cell: cell.architecture in ("LU-DnCNN", "DEQ4IP")),
        ("models/anderson.py", CHANGED, is_trained),  # ModelOptions holds SolverOptions
        ("cells/workload.py", CHANGED, is_trained),
        ("operators/blur.py", CHANGED, lambda cell: cell.task == "deblurring"),
        ("operators/parallel_beam.py", CHANGED, lambda cell: cell.task == "ct"),
        ("operators/mri.py", CHANGED, lambda cell: cell.task.startswith("mri")),
        ("operators/base.py", CHANGED, lambda cell: True),
        ("memory/search.py", replace("NEIGHBOURS = 2", "NEIGHBOURS = 0"), lambda cell: cell.stage != "accuracy"),
        (
            "memory/cudnn/workspaces-9.20.0.json.xz",
            lambda path: path.write_bytes(b"x"),
            lambda cell: cell.stage != "accuracy",
        ),
        ("memory/cards.csv", lambda path: path.write_bytes(b"x"), lambda cell: cell.stage != "accuracy"),
        ("memory/gpus.py", CHANGED, lambda cell: cell.stage != "accuracy"),
        ("units.py", CHANGED, lambda cell: cell.stage != "accuracy"),
        ("memory/explaining/explain.py", CHANGED, lambda cell: cell.stage == "profile"),
        ("stages/memory.py", CHANGED, lambda cell: cell.stage != "accuracy"),
        ("stages/timing.py", CHANGED, lambda cell: cell.stage == "timing"),
        ("execution/pool.py", CHANGED, lambda cell: cell.stage == "timing"),  # the cores that may be used
        ("execution/devices.py", CHANGED, lambda cell: cell.stage not in FULL_SIZE),
        ("accuracy/training.py", CHANGED, lambda cell: cell.stage == "accuracy"),
        ("accuracy/metrics.py", CHANGED, lambda cell: cell.stage == "accuracy"),
        ("data/measurements.py", CHANGED, lambda cell: cell.stage == "accuracy"),
        ("data/photographs.py", CHANGED, lambda cell: cell.stage == "accuracy" and cell.task == "deblurring"),
        ("data/phantoms.py", CHANGED, lambda cell: cell.stage == "accuracy" and cell.task != "deblurring"),
    ],
)
def test_a_change_of_code_changes_the_keys_that_it_decides(copy, before, file, change, affects):
    change(copy / file)
    after = fingerprints(copy)
    differ = [cell for cell, one, other in zip(CELLS, before, after, strict=True) if one != other]
    changed = [(cell.stage, cell.architecture, cell.task) for cell in differ]
    assert changed == [(cell.stage, cell.architecture, cell.task) for cell in CELLS if affects(cell)]


def test_what_is_left_out_is_there_and_has_a_reason():
    folder = Path(package.__file__).parent
    for name, reason in LEFT_OUT.items():
        place = folder.parent / name.replace(".", "/")
        assert (place.is_dir() or place.with_suffix(".py").is_file()) and reason


def test_what_timing_takes_its_batch_from_is_in_its_settings():
    sections = {"memory": {"alloc_conf": "expandable_segments:True"}}
    for batch, differs in (("largest", True), (4, False)):
        timing = {"timing": {"batch": batch}}
        one, other = (cells_of("timing", load(given=given))[0] for given in (timing, timing | sections))
        assert (one.key != other.key) == differs


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("x = (1 +\n 2)  # sum", "x = 1 + 2", True),
        ("f(a, b,)", "f(\n    a,\n    b,\n)", True),
        ("def f():\n    'text'\n    return 'a'", 'def f(): return "a"', True),
        ("f('a' 'b')", "f('ab')", True),
        ("x = f'{a:{b}}'", 'x = f"{a:{b}}"', True),
        ("x = 0x10", "x = 16", True),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", "import b", True),
        ("x = 1", "x = True", False),
        ("x = 0.0", "x = -0.0", False),
        ("x = 1", "x = 1.0", False),
        ("x = None", "x = 'None'", False),
        ("x = a", "x = 'a'", False),
        ("f([], a)", "f(a, [])", False),
        ("f(a, b)", "f([a, b])", False),
        ("def f(*, a, b=1): ...", "def f(*, a=1, b): ...", False),
        ("x = {**a}", "x = {None: a}", False),
        ("async def f(): ...", "def f(): ...", False),
        ("from a import b", "from .a import b", False),
        ("match x:\n    case None: ...", "match x:\n    case True: ...", False),
        ("x = [f'', 'a']", "x = ['', 'a']", False),
        ("x[:1]", "x[1:]", False),
        ("x = f'{a!r}'", "x = f'{a!s}'", False),
        ("x = f'{a:b}'", "x = f'{a}b'", False),
        ("if TYPE_CHECKING and a: x()", "if a: x()", False),
    ],
)
def test_equal_code_is_equal_and_other_code_is_not(tmp_path, one, other, equal):
    found = []
    for name, text in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text(text)
        found.append(Code({"bench": tmp_path / name}).fingerprint(["bench.part"]))
    assert (found[0] == found[1]) == equal


EACH_MODULE = """
import json, sys
from pathlib import Path
from bench.cells.code import Code
folder = Path(sys.argv[1])
names = [".".join(["bench", *path.relative_to(folder).with_suffix("").parts]) for path in sorted(folder.rglob("*.py"))]
code = Code({"bench": folder})
print(json.dumps({name: code._module(name.removesuffix(".__init__")).digest for name in names}))
"""


def interpreters():
    """Every other Python that is installed, by its version."""
    pyenv = Path.home() / ".pyenv/versions"
    for minor in range(10, 20):
        name = f"python3.{minor}"
        for path in [*sorted(pyenv.glob(f"3.{minor}.*/bin/python")), *filter(None, [shutil.which(name)])]:
            if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
                yield path
                break


def test_every_python_reads_the_same(copy, tmp_path):
    """Module by module, and in a corner of syntax in which versions differ."""
    (copy / "corner.py").write_text("f'{x:{y}}', f'{x}{{', f'', u'a', f'a{x=}', 'a' f'b{x}' 'c', '\\U0001fae8'\n")
    found = {}
    for python in [sys.executable, *interpreters()]:
        run = subprocess.run([python, "-c", EACH_MODULE, copy], capture_output=True, text=True, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        found[python] = json.loads(run.stdout)
    first = found[sys.executable]
    assert len(first) > 150 and len(set(first.values())) > 140
    for python, digests in found.items():
        assert digests == first, python


@pytest.fixture
def users(tmp_path, monkeypatch):
    """A package of the user's with an operator, and one module on its own."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/__init__.py").write_text("")
    (tmp_path / "lab/parts.py").write_text("import numpy\nSCALE = 2\n")
    (tmp_path / "lab/kernel.txt").write_text("1 2 1")
    (tmp_path / "lab/blur.py").write_text(
        "import bench\nfrom bench.operators.base import LinearOperator\n"
        "from .parts import SCALE\nfrom . import more\nKERNEL = 'kernel.txt'\n"
        "class LabBlur(LinearOperator): ...\n"
    )
    (tmp_path / "lab/more.py").write_text("import lab_alone\n")
    (tmp_path / "lab_alone.py").write_text("import lab\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lab", "lab_alone")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "decides"),
    [("blur.py", True), ("parts.py", True), ("kernel.txt", True), ("more.py", True), ("__init__.py", False)],
)
def test_an_operator_of_the_users_own_decides_as_well(users, monkeypatch, file, decides):
    import lab.blur

    monkeypatch.setitem(operators._discovered(), "LabBlur", lab.blur.LabBlur)
    config = load()
    task = config.task["deblurring"].model_copy(update={"operator": "LabBlur", "options": {}})
    (cell, *_) = cells_of("memory", config.model_copy(update={"task": {"deblurring": task, "ct": task, "mri": task}}))
    assert "lab.blur" in cell.modules
    ours = {name for name in Code().closure(cell.modules) if not name.startswith("bench")}
    assert ours == {"lab.blur", "lab.parts", "lab.more"}
    key = cell.key
    (users / "lab" / file).write_text("X = 1\n")
    monkeypatch.setattr(code, "HERE", Code())
    assert (cell.key != key) == decides


def test_a_module_on_its_own_and_a_class_in_no_file(users):
    import lab_alone  # noqa: F401

    assert Code().closure(["lab_alone"]) == {"lab_alone"}
    typed = type("Typed", (LinearOperator,), {"__module__": "typed_in"})
    with pytest.raises(UsageError, match="typed_in is in no file"):
        Code().fingerprint([typed.__module__])


TINY = """
[suite]
stages = ["memory"]
architectures = ["LU-DnCNN", "DEQ4IP"]
tasks = ["blur"]
gpu_caps = ["8GB"]
[model]
stages = 1
[model.solver]
max_evaluations = 2
[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 8, 8] }
"""


def test_results_of_earlier_code_are_counted_when_a_run_starts(bench, tmp_path, monkeypatch):
    (tmp_path / "bench.toml").write_text(TINY)
    measure, measured = stages.measure, {}

    def measure_once(cell, earlier, folder):
        if cell.architecture not in measured:
            measured[cell.architecture] = measure(cell, earlier, folder)
        return measured[cell.architecture]

    monkeypatch.setattr(stages, "measure", measure_once)

    def said(*options):
        result = bench("run", "--jobs", "1", *options)
        assert result.returncode == 0, result.stderr
        return [line for line in result.stderr.splitlines() if "earlier code" in line]

    def with_code(fingerprint):
        monkeypatch.setattr(code.HERE, "fingerprint", lambda modules: fingerprint)

    assert said() == []
    with_code("0" * 8)
    assert said("--architecture", "DEQ4IP") == ["bench: 1 record in results/runs is of earlier code: measured again"]
    assert said("--architecture", "DEQ4IP") == []
    with_code("1" * 8)
    assert said("--alloc-conf", "expandable_segments:True") == []  # another question
    assert said("--fresh", "--architecture", "LU-DnCNN") == []
    with_code("2" * 8)
    assert said() == ["bench: 2 records in results/runs are of earlier code: measured again"]
    assert len(list((tmp_path / "results/runs/records").glob("*.json"))) == 1 + 1 + 1 + 2 + 1 + 2


def test_checkpoints_of_earlier_code_are_counted_with_and_without_a_record(tmp_path):
    store = RecordStore(tmp_path / "records", print)
    (tmp_path / "checkpoints").mkdir()
    config = load(given={"accuracy": {"seeds": (1, 11)}}, preset="demo")
    cells = [cell for cell in cells_of("accuracy", config) if cell.task == "ct" and is_trained(cell)]
    first, second, third, fourth = cells

    def leave(path, cell, source):
        path.with_name(path.name.replace(cell.key, cell.asked + source)).touch()

    def record(cell, source):
        leave(store.path(cell.task, cell.architecture, cell.stage, cell.key), cell, source)

    def checkpoint(cell, source, seed):
        leave(Checkpoint.of(cell, seed, tmp_path).path, cell, source)

    assert told(cells, store) is None
    checkpoint(first, "0" * 8, 11)  # not finished, and no record
    assert told(cells, store) == f"1 checkpoint in {tmp_path} is of earlier code: measured again"
    record(second, "0" * 8)
    record(second, "1" * 8)
    assert told(cells, store) == f"1 record and 1 checkpoint in {tmp_path} are of earlier code: measured again"
    checkpoint(second, "0" * 8, 1)
    checkpoint(second, "1" * 8, 1)
    checkpoint(second, "1" * 8, 11)
    record(third, "0" * 8)
    assert told(cells, store) == f"2 records and 3 checkpoints in {tmp_path} are of earlier code: measured again"
    record(third, third.source)
    checkpoint(third, "0" * 8, 1)
    checkpoint(first, first.source, 11)  # goes on
    checkpoint(fourth, fourth.source, 1)
    assert told(cells, store) == f"1 record and 2 checkpoints in {tmp_path} are of earlier code: measured again"
    assert told([fourth], store) is None
