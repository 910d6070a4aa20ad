"""bench data: what it prints and its exit codes."""

import subprocess
import sys

import pytest

from bench.data import fetch as fetching
from bench.data import names
from bench.data.base import data_folder


@pytest.fixture
def bench(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    return bench


def test_list_has_every_set_with_its_counts(bench):
    done = bench("data", "list")
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| ")
    ]
    assert [row[0] for row in rows[1:]] == names()
    by_name = {row[0]: row for row in rows}
    assert by_name["photographs"][2:5] == ["1,024 (4)", "16 (1)", "16 (1)"] and by_name["photographs"][-1] == "yes"
    assert by_name["LoDoPaB-CT"][2:5] == ["-", "-", "-"] and by_name["LoDoPaB-CT"][-1] == "no"


def test_list_says_why_a_set_that_is_there_cannot_be_opened(bench, tmp_path):
    (tmp_path / "data" / "CelebA").mkdir(parents=True)
    (tmp_path / "data" / "CelebA" / "000001.jpg").touch()
    done = bench("data", "list")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("| CelebA"))
    assert row.split("|")[3].strip() == "1 (1)" and row.rstrip(" |").endswith("train")
    assert done.stderr.count("\n") == 2  # the two other splits
    assert "CelebA/test" in done.stderr and "none of them from 182638.jpg" in done.stderr


def test_fetch_says_where_the_files_are(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(fetching, "download", lambda archive, folder: folder)
    monkeypatch.setattr(fetching, "unpack", lambda path, part, place: None)
    done = bench("data", "fetch", "--set", "ct")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"fetched-ct: 2 files of pyradiomics 3.0.1 fetched, {tmp_path}/data/fetched-ct/pyradiomics",
        f"fetched-ct: 203 files of pycerr 2.5.1 fetched, {tmp_path}/data/fetched-ct/pycerr",
    ]
    assert done.stderr.count("being fetched") == 2


def test_an_unknown_set_is_one_sentence(bench):
    done = bench("data", "fetch", "--set", "xray")
    assert done.returncode == 2
    assert done.stderr == "bench: --set: unknown set 'xray': known are photographs, ct, mri\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"BENCH_DATA": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/bench"),
        ({"XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/bench"),
    ],
)
def test_where_the_data_folder_is(monkeypatch, environment, expected):
    for name in ("BENCH_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(data_folder()) == expected


def test_help_stays_fast():
    script = (
        "import sys, bench.commands.verbs; print([m for m in ('torch', 'numpy', 'PIL', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_has_every_set_by_its_whole_name(terminal, columns):
    assert set(names()) <= set(terminal(columns, "data", "list").split())
