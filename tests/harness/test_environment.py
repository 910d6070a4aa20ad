"""Settings of the user's environment that are meant for other programs, and those that PyTorch's allocator obeys."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
from handmade import stored, timing
from processes import COMMAND

from bench.commands.common import busy
from bench.data.base import data_folder
from bench.data.files import files_in
from bench.memory.environment import alloc_conf

CELL = ("--task", "blur", "--architecture", "LUSER-SW", "--json")
CUDA, BOTH = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
EXPANDABLE = "expandable_segments:True"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in (CUDA, BOTH):
        monkeypatch.delenv(name, raising=False)


ASK_TORCH = """
import json, os, sys, torch
for environment in json.loads(sys.argv[1]):
    if os.fork() == 0:  # PyTorch looks at the variables once in a process
        os.environ.update(environment)
        print(json.dumps(torch._C._accelerator_getAllocatorSettings()), flush=True)
        os._exit(0)
    os.wait()
"""


def test_the_variable_that_counts_is_the_installed_pytorchs():
    values = (None, "", "max_split_size_mb:50")
    environments = [
        {name: text for name, text in ((CUDA, cuda), (BOTH, both and both.replace("50", "40"))) if text is not None}
        for cuda in values
        for both in values
    ]
    asked = subprocess.check_output([sys.executable, "-c", ASK_TORCH, json.dumps(environments)], text=True)
    obeyed = [json.loads(line) for line in asked.splitlines()]
    assert len(set(obeyed)) == 3
    assert [(alloc_conf(environment) or ("", ""))[1] for environment in environments] == obeyed


def test_the_environments_allocator_options_are_obeyed_and_said(bench, monkeypatch):
    def measured(*arguments):
        result = bench("run", *CELL, *arguments)
        (record,) = json.loads(result.stdout)
        edge = record["memory"]["cards"][0]["edges"]["high"]
        return record["key"], record["settings"]["memory"]["alloc_conf"], edge["peak_reserved_bytes"], result.stderr

    plain_key, _, plain_bytes, _ = measured()
    by_option = measured("--alloc-conf", EXPANDABLE)
    monkeypatch.setenv(BOTH, EXPANDABLE)
    *by_environment, said = measured()
    assert by_environment == list(by_option[:3])
    assert f"bench: {BOTH}={EXPANDABLE} in the environment is obeyed, as on the card" in said
    assert by_environment[0] != plain_key
    assert measured("--alloc-conf", "")[:3] == (plain_key, "", plain_bytes)


@pytest.mark.parametrize(
    "text", ["expandable_segments:true", "bogus:1", "max_split_size_mb:1", "backend:cudaMallocAsync"]
)
def test_allocator_options_that_cannot_be_obeyed_are_2(bench, monkeypatch, text):
    monkeypatch.setenv(CUDA, text)
    result = bench("run", *CELL)
    assert result.returncode == 2
    assert result.stderr.startswith(f"bench: {CUDA} in the environment: allocator ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("check", "--baseline", "nowhere.json"), ("baseline", "update", "--jobs", "1")])
def test_the_gate_compares_under_the_configurations_options_alone(bench, monkeypatch, arguments):
    conditions = []
    monkeypatch.setattr(
        "bench.regression.fresh.measure_composed", lambda cell: conditions.append(cell.memory.alloc_conf)
    )
    monkeypatch.setattr("bench.regression.fresh.side_by_side", lambda work, jobs, cells: [*map(work, cells)][:0])
    monkeypatch.setenv(CUDA, EXPANDABLE)
    result = bench(*arguments)
    assert f"bench: {CUDA} in the environment is ignored here" in result.stderr
    assert set(conditions) <= {""}
    assert bool(conditions) == (arguments[0] == "baseline")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_any_encoding_of_stdout(tmp_path, encoding):
    record = timing("LU-DnCNN", 1.0, 1.0)
    there = record.timing.model_copy(update={"device": "Zürich-ᵀ±"})
    stored(tmp_path / "r", record.model_copy(update={"timing": there}))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [*COMMAND, "report", "--records", "r", "--formats", "terminal"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = {"ascii": "Zurich-T+-", "cp1252": "Zürich-T±"}
    assert shown[encoding] in done.stdout.decode(encoding)


def test_json_is_ascii_and_loses_nothing(capsys):
    from bench.report.terminal import print_json

    values = {"ü": ["±", "𝔸\u2028", '\\"']}
    print_json(json.dumps(values, ensure_ascii=False))
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == values


def test_without_a_home_the_cache_is_among_temporary_files(monkeypatch):
    for name in ("BENCH_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user whom the system does not know
    assert str(data_folder()) == f"{tempfile.gettempdir()}/bench-{os.getuid()}"


def test_a_notebooks_backend_is_ignored(bench, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://of.a.notebook")
    bench("--version")
    assert os.environ["MPLBACKEND"] == "agg"


def test_warnings_are_no_errors(tmp_path):
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}
    done = subprocess.run([*COMMAND, "list"], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


CONTROLS = ["\x03", "\n", "\x1b", "\x9b", "\u2028", "\u202e"]


@pytest.mark.parametrize("character", CONTROLS)
def test_a_terminal_gets_no_control_characters_of_a_damaged_file(bench, tmp_path, character):
    records = tmp_path / "out" / "records"
    stored(records, timing("LU-DnCNN", 1.0, 1.0))
    (file,) = records.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {f"evil{character}[31m": None}))
    done = bench("merge", "out", "--output", "new")
    assert done.returncode == 2
    assert f"is damaged (evil{ascii(character)[1:-1]}[31m: Extra inputs are not permitted)" in done.stderr


@pytest.mark.parametrize("character", [*CONTROLS, "\udc80"])
def test_a_terminal_gets_no_control_characters_of_a_files_name(bench, character):
    done = bench("report", "--records", f"no{character}thing")
    assert done.returncode == 2
    assert f"there is no folder no{ascii(character)[1:-1]}thing: " in done.stderr


@pytest.mark.parametrize("threads", ["", "0", "-1", "many", "2,x"])
def test_threads_that_are_no_number_are_ignored_and_said(bench, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    done = bench("list")
    assert done.returncode == 0
    assert (
        done.stderr == f"bench: OMP_NUM_THREADS={threads!r} in the environment is no number of threads and is ignored\n"
    )
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("threads", ["1", " 4 ", "4,2"])
def test_threads_that_openmp_understands_are_left_alone(bench, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert not bench("list").stderr
    assert os.environ["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("command", [("check", "--baseline", "pipe"), ("compare", "pipe", "pipe")])
def test_a_baseline_that_is_no_file_is_not_waited_for(bench, tmp_path, command):
    os.mkfifo(tmp_path / "pipe")
    done = bench(*command)
    assert done.returncode == 2
    assert done.stderr == "bench: cannot read the baseline pipe: not a regular file\n"


def test_nothing_is_drawn_into_a_file_in_whatever_colour(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with busy("working"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_working_folder_that_is_gone(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    script = f"cd {folder} && rmdir {folder} && {sys.executable} -c 'from bench.cli import main; main()' list"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: the working folder cannot be used (No such file or directory)")


def test_what_systems_leave_beside_files_is_passed_over(tmp_path):
    for name in ("b.h5", "a.h5", "._a.h5", ".DS_Store", "Thumbs.db", "c.h5.part"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert [path.name for path in files_in(tmp_path, ".h5")] == ["a.h5", "b.h5"]
    assert files_in(tmp_path / "nowhere", ".h5") == []


def test_an_environment_without_the_caching_allocator_is_2(bench, monkeypatch):
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
    result = bench("run", *CELL)
    assert result.returncode == 2
    assert "switches PyTorch's caching allocator off: unset it" in result.stderr


def test_that_cublas_workspaces_of_the_environment_are_ignored_is_said(bench, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert "CUBLAS_WORKSPACE_CONFIG=:16:8 in the environment is ignored here" in bench("run", *CELL).stderr
