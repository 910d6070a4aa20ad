"""One importable name of ours: a user's own `models` and `operators` go on working beside bench."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import users_plugin

ROOT = Path(__file__).parents[2]
THEIRS = {"models/__init__.py": "whose = 'theirs'\n", "operators.py": "whose = 'theirs'\n"}
CHECK = """
import importlib.util, models, operators, bench.models, bench.operators
assert (models.whose, operators.whose) == ("theirs", "theirs")
assert bench.models.__name__ == "bench.models" and callable(bench.models.get) and callable(bench.operators.get)
"""
STEP = """
import models, torch

def test_step(record_step):
    def make_step(batch, device):
        network = torch.nn.Linear(8, 8).to(device)
        return lambda: network(torch.rand(batch, 8, device=device)).sum().backward()

    assert models.whose == "theirs"
    record_step(make_step).assert_largest_batch(at_least=10, cap="1GB")
"""


class Environment:
    """A virtual environment that sees the packages of this one, but not this one's bench."""

    def __init__(self, folder):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        (self.site_packages,) = (folder / "lib").glob("python*/site-packages")
        below = [path for path in sys.path if Path(path).name == "site-packages"]
        (self.site_packages / "0-below.pth").write_text("".join(f"{path}\n" for path in below))

    def run(self, *command, cwd, **environment):
        keep = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=cwd, env=keep | environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments):
        python = self.bin / "python"
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            *arguments,
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run(command, check=True, cwd=python.parent)

    def install(self, *what):
        self.pip("install", "--no-deps", "--no-index", "--ignore-installed", *what)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Our wheel, an editable one, and one of the user's with packages that are called as parts of ours."""
    folder = tmp_path_factory.mktemp("wheels")
    build = "import sys, hatchling.build as b; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"
    ours = {}
    for kind in ("wheel", "editable"):
        place = folder / kind
        place.mkdir()
        command = [sys.executable, "-c", build, kind, place]
        name = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.split()[-1]
        ours[kind] = place / name
    info = {
        "theirs-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1\n",
        "theirs-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "theirs-1-py3-none-any.whl", "w") as archive:
        for name, text in (THEIRS | info).items():
            archive.writestr(name, text)
        archive.writestr("theirs-1.dist-info/RECORD", "".join(f"{name},,\n" for name in THEIRS | info))
    return ours | {"theirs": folder / "theirs-1-py3-none-any.whl"}


@pytest.fixture(scope="module", params=["wheel", pytest.param("editable", marks=pytest.mark.slow)])
def environment(request, wheels, tmp_path_factory):
    made = Environment(tmp_path_factory.mktemp(request.param) / "env")
    made.install(wheels[request.param])
    return made


@pytest.fixture
def project(tmp_path):
    """A user's folder with packages of its own."""
    for name, text in THEIRS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_wheel_has_bench_alone(wheels):
    names = zipfile.ZipFile(wheels["wheel"]).namelist()
    assert {name.partition("/")[0] for name in names} == {"bench", "bench_inverse-0.1.0.dist-info"}
    parts = {
        "bench/models/anderson.py",
        "bench/models/architectures/luser.py",
        "bench/operators/mri.py",
        "bench/bench.toml",
        "bench/py.typed",
    }
    assert parts <= set(names)
    assert len(names) == len(set(names))


def test_the_sdist_is_small_and_makes_the_same_wheel(wheels, tmp_path):
    build = "import hatchling.build as b; print(b.build_{}('{}'))"
    run = {"check": True, "capture_output": True, "text": True}
    made = subprocess.run([sys.executable, "-c", build.format("sdist", tmp_path)], cwd=ROOT, **run)
    sdist = tmp_path / made.stdout.split()[-1]
    assert sdist.stat().st_size < 1_200_000  # bytes
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)  # our own
    source = sdist.with_name(sdist.name.removesuffix(".tar.gz"))
    assert not {"results", "tests"} & {path.name for path in source.iterdir()}
    again = subprocess.run([sys.executable, "-c", build.format("wheel", tmp_path)], cwd=source, **run)
    first, second = (zipfile.ZipFile(path) for path in (wheels["wheel"], tmp_path / again.stdout.split()[-1]))
    assert {name: first.read(name) for name in first.namelist()} == {
        name: second.read(name) for name in second.namelist()
    }


def test_bench_alone_can_be_imported(environment, tmp_path):
    code = """
import importlib.util
names = ["bench", "models", "operators", "tests", "tools", "benchmarks", "results"]
print([name for name in names if importlib.util.find_spec(name)])
"""
    assert environment.run("python", "-c", code, cwd=tmp_path) == "['bench']\n"


def test_users_packages_on_pythonpath(environment, project):
    environment.run("python", "-c", CHECK, cwd=project.parent, PYTHONPATH=str(project))
    assert "LUSER-SW" in environment.run("bench", "list", cwd=project, PYTHONPATH=".")
    (project / "test_step.py").write_text(STEP)
    printed = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_step.py", cwd=project)
    assert "1 passed" in printed


def test_a_users_architecture_operator_and_card(environment, tmp_path):
    users_plugin.write(tmp_path, "mine")
    (record,) = json.loads(environment.run("bench", "run", "--json", "--jobs", "1", cwd=tmp_path))
    assert (record["architecture"], record["settings"]["task"]["operator"]) == ("Step of mine", "Half_mine")
    assert record["parameters"]["trainable"] == 16 * 9 + 16 + 1
    assert [card["card"] for card in record["memory"]["cards"]] == ["Card of mine"]


def test_users_packages_by_a_pth_file(environment, project):
    pth = environment.site_packages / "theirs.pth"
    pth.write_text(f"{project}\n")
    try:
        environment.run("python", "-c", CHECK, cwd=project.parent)
    finally:
        pth.unlink()


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("kind", ["wheel", pytest.param("editable", marks=pytest.mark.slow)])
def test_users_wheel_before_and_after_ours(wheels, kind, first, tmp_path):
    environment = Environment(tmp_path / "env")
    ours, theirs = wheels[kind], wheels["theirs"]
    for wheel in (ours, theirs) if first == "ours" else (theirs, ours):
        environment.install(wheel)
    environment.run("python", "-c", CHECK, cwd=tmp_path)
    environment.pip("uninstall", "--yes", "bench-inverse")
    left = {name: (environment.site_packages / name).read_text() for name in THEIRS}
    assert left == THEIRS
    assert not (environment.site_packages / "bench").exists()


def test_a_checkout_without_links(tmp_path):
    """git makes files of links where the system has none, as on Windows; bench then looks beside itself."""
    checkout = tmp_path / "checkout"
    clone = ["git", "-c", "core.symlinks=false", "clone", "--quiet", "--depth=1", f"file://{ROOT}", checkout]
    if subprocess.run(clone, capture_output=True).returncode:
        pytest.skip("not in a git checkout")
    assert not (checkout / "bench" / "models").is_dir()
    code = (
        "from bench.config import load; from bench import models; print(len(load().task), 'DEQ4IP' in models.names())"
    )
    done = subprocess.run([sys.executable, "-S", "-c", PATH + code], cwd=checkout, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("7 True\n", 0), done.stderr


PATH = f"import sys; sys.path[1:] = {sys.path[1:]!r}; "
"""Without the site module, so that no editable installation of bench is found."""
