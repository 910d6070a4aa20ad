"""[plugins] in bench.toml: architectures, operators and cards of one's own.

Those of an installed bench are in test_installation.
"""

import json
import os
import pickle

import pytest
import users_plugin

from bench import models, operators, plugins
from bench.cells import suite
from bench.cells.code import Code, _listed
from bench.config import load
from bench.errors import UsageError
from bench.step_memory import chosen_card


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What plugins register is forgotten after each test."""
    for package in (models, operators):
        found = dict(package._discovered())
        monkeypatch.setattr(package, "_discovered", lambda found=found: found)
    monkeypatch.setattr(plugins, "_loaded", {})


def test_a_run_with_ones_own(bench, tmp_path):
    users_plugin.write(tmp_path, "own")
    result = bench("run", "--json", "--jobs", "1")
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert (record["architecture"], record["task"], record["status"]) == ("Step of own", "halved", "ok")
    assert record["parameters"]["trainable"] == 16 * 9 + 16 + 1  # weights, biases, step size
    (card,) = record["memory"]["cards"]
    assert (card["card"], card["total_bytes"]) == ("Card of own", 5 * 2**30)
    assert chosen_card(None, "card OF own").total_bytes == 5 * 2**30  # as tests name it
    listed = bench("list").stdout
    assert "Step of own" in listed and "Half_own" in listed


def test_a_file_is_relative_to_the_bench_toml_that_names_it(tmp_path, monkeypatch):
    path = users_plugin.write(tmp_path, "relative")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(path)
    assert config.plugins.modules == (str(tmp_path / "sub" / "relative.py"),)
    assert config.suite.architectures == ("Step of relative",)
    assert config.suite.gpus == ("Card of relative",)


def test_a_module_of_a_package_beside_bench_toml(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # and takes away again what is put there
    path = users_plugin.write(tmp_path, "packed")
    (tmp_path / "sub" / "__init__.py").touch()
    module = tmp_path / "sub" / "packed.py"
    module.write_text(module.read_text().replace("from beside_packed", "from sub.beside_packed"))
    path.write_text(path.read_text().replace("sub/packed.py", "sub.packed"))
    (cell,) = suite.cells(load(path))
    assert Code().closure(cell.modules) > {"sub.packed", "sub.beside_packed", "bench.operators.base"}


def test_the_key_has_the_code_of_the_plugin_and_of_the_file_beside_it(tmp_path):
    (cell,) = suite.cells(load(users_plugin.write(tmp_path, "keyed")))
    before = Code().fingerprint(cell.modules)
    for name in ("keyed", "beside_keyed"):
        file = tmp_path / "sub" / f"{name}.py"
        text = file.read_text()
        file.write_text(text + "# a remark\n")
        assert Code().fingerprint(cell.modules) == before
        file.write_text(text.replace("16", "17") + "more = 1\n")
        assert Code().fingerprint(cell.modules) != before
        file.write_text(text)
    _listed.cache_clear()


def test_a_process_that_was_not_forked_loads_them(tmp_path):
    (cell,) = suite.cells(load(users_plugin.write(tmp_path, "sent")))
    step = plugins.WithPlugins(cell.config.plugins.modules, cell.workload.make_step)
    sent = pickle.loads(pickle.dumps(step))
    plugins._loaded.clear()
    del models._discovered()["Step of sent"], operators._discovered()["Half_sent"]  # as there
    import torch

    assert sent(2, torch.device("cpu"))().shape == ()
    assert {"Step of sent"} < set(models.names()) and {"Half_sent"} < set(operators.names())


OTHER = "from bench.operators.base import LinearOperator\nclass {}(LinearOperator): pass\n"
NETWORK = "from bench.models.architectures.base import Architecture\nclass N(Architecture): name = '{}'\n"
A_CARD = "from bench.memory import Card\ncard = Card('RTX 3080', 1, 0, None, None, '')\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file {file}"),
        (
            "import no_such_module_anywhere\n",
            "{file} cannot be imported: ModuleNotFoundError: No module",
        ),
        ("x = 1\n\ny = 1 / 0\n", "ZeroDivisionError: division by zero (mine.py:3: `y = 1 / 0`)"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)\n", "{file} ends the program (mine.py:1"),
        (
            "from bench.operators.mri import MRI\n",
            "{file} has no plugin: expected a subclass of Archit",
        ),
        (OTHER.format("MRI"), "{file}: the name of the operator MRI is taken: give it another one"),
        (OTHER.format("mri"), "{file}: the name of the operator mri is taken: give it another one"),
        (NETWORK.format("deq4IP"), "{file}: the name of the architecture deq4IP is taken: give it another one"),
        (A_CARD, "{file}: the name of the card RTX 3080 is taken: give it another one"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_sentence(content, says, bench, tmp_path):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    (tmp_path / "bench.toml").write_text('[suite]\nstages = ["memory"]\n[plugins]\nmodules = ["mine.py"]\n')
    mri = operators.get("MRI")
    result = bench("list")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("bench: bench.toml line 4: plugins.modules.0: ")
    assert says.format(file=os.path.realpath(file)) in result.stderr
    assert operators.get("MRI") is mri and "mri" not in operators.names()  # as it was


def test_every_plugin_that_is_wrong_is_told(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text('[plugins]\nmodules = ["one.py", "no_such_package.two"]\n')
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value).count("plugins.modules.") == 2
    assert "there is no module no_such_package" in str(error.value)


def test_two_files_of_one_name_are_refused(tmp_path):
    path = users_plugin.write(tmp_path, "twice")
    (tmp_path / "twice.py").write_text("")
    path.write_text('[plugins]\nmodules = ["sub/twice.py", "twice.py"]\n')
    with pytest.raises(UsageError, match=r"modules\.1: .*twice\.py is called as .*sub/twice\.py is: give"):
        load(path)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[plugins]\nmodules = 'mine.py'\n", "plugins.modules: got 'mine.py', expected a list"),
        ("[plugins]\nmodules = [3]\n", "plugins.modules.0: got 3, expected a text in quotes"),
        ("[plugins]\nfiles = []\n", "plugins.files: unknown key"),
        (
            "[preset.demo.plugins]\nmodules = ['mine.py']\n",
            "preset.demo.plugins: plugins are of a whole",
        ),
    ],
)
def test_a_table_of_another_form(table, says, tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(table)
    with pytest.raises(UsageError) as error:
        load(path)
    assert says in str(error.value)
