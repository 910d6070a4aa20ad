"""The command as a user types it: what it prints, what it stores, and its exact exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import __version__
from bench.commands.verbs import app
from bench.memory.cudnn import backend

ROOT = Path(__file__).parents[2]


def command(*arguments):
    """The command line of a process of its own."""
    return [sys.executable, "-c", "from bench.cli import main; main()", *arguments]


def records(folder: Path):
    return {path.name: path.read_bytes() for path in sorted((folder / "results/runs/records").glob("*.json"))}


def memory_of(content, card):
    """The largest batch of a stored record on a card."""
    (edges,) = [each["edges"] for each in json.loads(content)["memory"]["cards"] if each["card"] == card]
    return edges.get("exact", edges["high"])["largest_batch"]


def one_sentence(text):
    """Exactly one line on stderr, ours, beside one for each finished cell."""
    text = re.sub(r"^bench: \d+ of \d+: .*\n", "", text, flags=re.MULTILINE)
    assert text.startswith("bench: "), text
    assert text.count("\n") == 1, text
    return text


def test_the_table_its_files_and_a_second_run(bench, tmp_path):
    first = bench("run")
    assert first.returncode == 0, first.stderr
    rows = [line for line in first.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * 3  # header; parameters, 8GB and MiB per image of two tasks
    assert "558,580" in rows[1] and "96,503" in rows[1]  # the paper's way of counting
    stored = records(tmp_path)
    assert len(stored) == 4
    markdown = (tmp_path / "results/runs/table3.md").read_text()
    assert markdown == first.stdout
    assert (tmp_path / "results/runs/table3.csv").read_text().count("\n") == 1 + 4

    second = bench("run")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    taken, *ending = second.stderr.splitlines()
    assert "4 of 4 cells taken from" in taken
    batch, cell = max((memory_of(content, "8GB"), name) for name, content in stored.items())
    task, architecture, _ = cell.split("--", 2)
    assert ending == [
        "bench: 4 results (4 memory), 0 failed",
        f"bench: largest batch: 8GB {batch} ({architecture} on {task})",
        "bench: tables and records: results/runs; `bench report --records results/runs` makes a page of them",
    ]
    assert first.stderr.splitlines()[4:] == ending  # after one line for each finished cell
    lines = [
        re.fullmatch(r"bench: (\d) of 4: (\S+) on (\S+), memory: ok \(\d+\.\d s\)", line)
        for line in first.stderr.splitlines()[:4]
    ]
    assert [line[1] for line in lines] == ["1", "2", "3", "4"]
    assert {f"{line[3]}--{line[2]}--memory" for line in lines} == {name.rsplit("--", 1)[0] for name in stored}
    assert records(tmp_path) == stored

    assert bench("run", "--fresh", "--architecture", "LUSER-SW", "--task", "knee").returncode == 0
    changed = {name for name, content in records(tmp_path).items() if stored[name] != content}
    assert {name.rsplit("--", 1)[0] for name in changed} == {"knee--LUSER-SW--memory"}


def test_another_cap_is_added_to_what_is_known(bench, tmp_path):
    arguments = ("run", "--task", "blur", "--architecture", "LUSER-SW")
    bench(*arguments, "--gpu-cap", "8GB")
    result = bench(*arguments, "--gpu-cap", "1GB", "--gpu", "rtx 3080", "--json")
    (record,) = json.loads(result.stdout)
    assert [card["card"] for card in record["memory"]["cards"]] == ["8GB", "1GB", "RTX 3080"]
    edges = {card["card"]: card["edges"]["high"]["largest_batch"] for card in record["memory"]["cards"]}
    assert 0 < edges["1GB"] < edges["8GB"] < edges["RTX 3080"]
    assert result.returncode == 0


def test_json_is_the_records_and_nothing_else(bench, tmp_path):
    printed = json.loads(bench("run", "--json").stdout)
    stored = [json.loads(content) for content in records(tmp_path).values()]
    assert sorted(printed, key=str) == sorted(stored, key=str)
    for record in printed:
        assert record["status"] == "ok"
        assert record["memory"]["engine"] == "simulated"
        assert record["provenance"]["torch"]
        (card,) = record["memory"]["cards"]
        high, low = card["edges"]["high"], card["edges"]["low"]
        assert high["largest_batch"] <= low["largest_batch"]
        assert high["peak_reserved_bytes"] <= card["usable_bytes"]
        assert high["largest_batch"] + 1 in high["not_fitting"]


def test_stages_come_one_after_the_other_each_with_its_table(bench, tmp_path):
    arguments = ("run", "--task", "blur", "--stages", "memory,timing", "--preset", "tiny")
    first = bench(*arguments)
    assert first.returncode == 0, first.stderr
    memory, timing, all_stages = (
        (tmp_path / f"results/runs/{name}.md").read_text() for name in ("table3", "timing", "table4")
    )
    assert first.stdout == memory + timing + all_stages
    assert "| blur   | LU-DnCNN       | 3x8x8   | 2 " in timing
    assert "sizes: preset tiny (K=2, at most 50 solver evaluations)" in timing
    stored = {name: json.loads(content) for name, content in records(tmp_path).items()}
    assert len(stored) == 4
    found = {(r["stage"], r["preset"], tuple(r["image_shape"])) for r in stored.values()}
    assert found == {("memory", None, (3, 32, 32)), ("timing", "tiny", (3, 8, 8))}

    again = bench(*arguments)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr.count("2 of 2 cells taken from") == 2
    assert sorted(json.loads(bench(*arguments, "--json").stdout), key=str) == sorted(stored.values(), key=str)


def test_a_failing_cell_is_a_record_and_exit_code_3(bench, tmp_path, radon_fails):
    result = bench("run", "--task", "broken", "--task", "blur")
    assert result.returncode == 3
    *_, counted, _, _, last = result.stderr.splitlines()
    assert counted == "bench: 4 results (4 memory), 2 failed" and "2 of 4 cells failed" in last
    assert "failed" in result.stdout
    by_task = [json.loads(content) for content in records(tmp_path).values()]
    assert {(r["task"], r["status"]) for r in by_task} == {("broken", "failed"), ("blur", "ok")}
    assert all("RuntimeError: out of order" in r["reason"] for r in by_task if r["status"] == "failed")
    again = bench("run", "--task", "broken", "--task", "blur")
    assert again.returncode == 3
    assert "2 of 4 cells taken from" in again.stderr  # what failed is tried again


def test_list(bench):
    result = bench("list")
    assert result.returncode == 0
    for name in ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW", "GaussianBlur", "Radon", "MRI", "knee", "RTX 3080"):
        assert name in result.stdout


def test_version(bench):
    import bench as package

    assert bench("--version").stdout == f"bench {package.__version__}\n"


def test_help_needs_no_torch(bench):
    script = (
        "import sys\nfrom bench.commands.verbs import app\nprint({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"
    assert bench("--help").returncode == bench("run", "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--architecture", "LUSER"), "unknown architecture 'LUSER': known are LU-DnCNN, DEQ4IP, "),
        (("--task", "mr"), "unknown task 'mr': known are "),
        (
            ("--gpu", "RTX 9999"),
            "unknown card 'RTX 9999': the nearest are RTX 3090, RTX 4090, RTX 5090 (see",
        ),
        (("--gpu-cap", "8XB"), "'8XB' is not a memory size"),
        (("--gpu-cap=-1GB",), "'-1GB' is not a memory size"),
        (("--gpu-cap", "0GB"), "'0GB' is not a memory size"),
        (("--gpu-cap", "400MiB"), "the CUDA context alone takes 500.00 MiB"),
        (("--gpu-cap", "501MiB", "--task", "blur"), "less than the parameters of LU-DnCNN"),
        pytest.param(
            ("--engine", "cuda"),
            "the cuda engine needs a GPU, but",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (("--engine", "abacus"), "--engine: got 'abacus', expected 'simulated', 'cuda' or 'virtual'"),
        (("--alloc-conf", "expandable:True"), "--alloc-conf: "),
        (
            ("--stages", "memory,time"),
            "--stages: got 'time', expected 'memory', 'profile', 'timing' or 'accuracy'",
        ),
        (
            ("--stages", "timing", "--preset", "tiniest"),
            "unknown preset 'tiniest': known are auto, paper, demo, evening, systems, tiny",
        ),
        (("--config", "nowhere.toml"), "no configuration file at nowhere.toml"),
        (("--config", "not.toml"), "not.toml is not TOML"),
        (("--config", "unknown.toml"), "unknown.toml line 2: suite.colour: unknown key"),
        (
            ("--config", "operator.toml"),
            "operator.toml line 4: task.x.operator: unknown operator 'Blurr': known are GaussianBlur, ",
        ),
        (("--output", "/proc/nowhere"), "cannot write to the output folder /proc/nowhere"),
        (("--output", "bench.toml"), "cannot write to the output folder bench.toml"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(bench, tmp_path, arguments, message):
    (tmp_path / "not.toml").write_text("[suite")
    (tmp_path / "unknown.toml").write_text("[suite]\ncolour = 1\n")
    (tmp_path / "operator.toml").write_text('[suite]\ntasks = ["x"]\n[task.x]\noperator = "Blurr"\n')
    result = bench("run", *arguments)
    assert result.returncode == 2, result
    assert message in one_sentence(result.stderr)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_validation_without_a_gpu_is_one_sentence_and_exit_code_2(bench, tmp_path):
    result = bench("validate")
    assert result.returncode == 2
    assert "the cuda engine needs a GPU, but" in one_sentence(result.stderr)
    assert not (tmp_path / "results").exists()


def test_allocator_options_change_the_answer(bench):
    def peaks(*arguments):
        (record,) = json.loads(
            bench("run", "--task", "blur", "--architecture", "LUSER-SW", "--json", *arguments).stdout
        )
        (card,) = record["memory"]["cards"]
        return record["settings"]["memory"]["alloc_conf"], card["edges"]["high"]

    (none, plain), (conf, expandable) = peaks(), peaks("--alloc-conf", "expandable_segments:True")
    assert (none, conf) == ("", "expandable_segments:True")
    assert plain["peak_reserved_bytes"] != expandable["peak_reserved_bytes"]
    assert plain["largest_batch"] <= expandable["largest_batch"]


def test_the_switches_of_cudnn_are_settings_of_a_cell(bench, tmp_path):
    """Records under other settings are others; these are both asked for by option."""
    cell = ("--task", "blur", "--architecture", "LU-DnCNN", "--json")

    def switches(*arguments):
        (record,) = json.loads(bench("run", *cell, *arguments).stdout)
        return record["key"], record["settings"]["memory"]["allow_tf32"], record["settings"]["memory"]["deterministic"]

    (first, *default), (second, *other) = switches(), switches("--no-allow-tf32", "--deterministic")
    assert (default, other) == ([True, False], [False, True])
    assert first != second
    assert len(list((tmp_path / "results/runs/records").glob("*.json"))) == 2


def test_without_cudnn_a_named_card_has_its_own_workspaces_or_the_interval(bench, monkeypatch):
    """The shipped answers are of the default suite's convolutions, under every setting; of others there are none."""

    def not_installed():
        raise backend.NotAtHandError("libcudnn is not installed")

    monkeypatch.setattr(backend, "load", not_installed)

    def edges(task, *arguments):
        result = bench("run", "--architecture", "LU-DnCNN", "--task", task, "--gpu", "RTX 3080", "--json", *arguments)
        (record,) = json.loads(result.stdout)
        return record["memory"]["cards"][0]["edges"]

    for switches in ((), ("--no-allow-tf32", "--deterministic")):
        assert set(edges("blur", *switches)) == {"high", "low"}
    default, other = edges("deblurring"), edges("deblurring", "--no-allow-tf32")
    assert default["low"] == other["low"]
    assert default["exact"]["peak_allocated_bytes"] != other["exact"]["peak_allocated_bytes"]


def test_an_unknown_option_is_exit_code_2(bench):
    assert bench("run", "--gpu-cup", "8GB").returncode == 2
    assert bench("walk").returncode == 2


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: b"", lambda text: b"{}"])
def test_a_damaged_record_is_set_aside_and_measured_again(bench, tmp_path, damage):
    arguments = ("run", "--architecture", "LU-DnCNN")
    first = bench(*arguments)
    (name, content), *others = records(tmp_path).items()
    path = tmp_path / "results/runs/records" / name
    path.write_bytes(damage(content))
    result = bench(*arguments)
    assert (result.returncode, result.stdout) == (0, first.stdout)
    assert f"{name} is damaged" in result.stderr
    assert path.with_suffix(".json.damaged").read_bytes() == damage(content)
    now = records(tmp_path)
    assert json.loads(now[name])["memory"] == json.loads(content)["memory"]
    assert [(other, now[other]) for other, _ in others] == others


@pytest.mark.parametrize("stop", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT])
def test_a_stopped_run_goes_on_and_loses_nothing(bench, tmp_path, stop):
    folder = tmp_path / "results/runs/records"
    process = subprocess.Popen(command("run"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=60)
    before = records(tmp_path)
    assert before, "the first record must be on disk before the second cell is measured"
    if process.returncode != 0:  # a fast machine may be through before the signal comes
        assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[stop]
        assert stop == signal.SIGKILL or len(before) == 4 or "the same command goes on from there" in stderr
    for content in before.values():
        assert json.loads(content)["status"] == "ok"
    result = bench("run")
    assert result.returncode == 0
    assert f"{len(before)} of 4 cells taken from" in result.stderr
    after = records(tmp_path)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before


def test_a_reader_that_goes_away_is_no_error(tmp_path, bench):
    bench("run")
    run = subprocess.Popen(command("run"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run.stdout.close()
    assert "Traceback" not in run.stderr.read()
    run.wait(timeout=60)


@pytest.mark.slow
def test_two_runs_at_once_with_other_cards_end_with_the_cards_of_both(bench, tmp_path):
    caps = ("8GB", "10GB")
    arguments = ("run", "--architecture", "LUSER-SW", "--task", "blur", "--jobs", "1", "--gpu-cap")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command(*arguments, cap), cwd=tmp_path, **streams) for cap in caps]
    for process, cap in zip(running, caps, strict=True):
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert f"| {cap} " in stdout
    (content,) = records(tmp_path).values()
    assert {card["card"] for card in json.loads(content)["memory"]["cards"]} == set(caps)
    assert "--fresh" in bench(*arguments, "8GB", "--gpu-cap", "10GB").stderr  # nothing is left to measure


def test_a_record_of_a_newer_bench_ends_a_run_before_anything_is_measured(bench, tmp_path):
    run = ("run", "--architecture", "LUSER-SW", "--task", "blur")
    bench(*run)
    name = min(records(tmp_path))
    path = tmp_path / "results/runs/records" / name
    path.write_text('{"format": 3}')
    before = records(tmp_path)
    for fresh in ([], ["--fresh"]):
        result = bench(*run, *fresh)
        assert result.returncode == 2
        assert result.stderr == (
            f"bench: results/runs/records/{name} is a record of format 3, and this bench reads format 2: "
            "update bench, or run this one into another folder\n"
        )
        assert records(tmp_path) == before


def windows(words, length):
    return [words[place : place + length] for place in range(len(words))]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_has_every_description_whole(terminal, columns):
    text = terminal(columns, "--help")
    assert max(map(len, text.splitlines())) <= columns
    verbs = [command for command in app.registered_commands if command.name]
    assert len(verbs) > 10
    first = [command.callback.__doc__.split("\n\n")[0] for command in verbs]
    groups = [group.typer_instance.info.help for group in app.registered_groups]
    assert len(groups) == 2
    for sentence in (*first, *groups):
        assert sentence.split() in windows(text.split(), len(sentence.split()))


def test_help_is_as_wide_as_the_terminal(terminal):
    assert max(map(len, terminal(120, "run", "--help").splitlines())) > 100


def test_the_shell_completes_verbs(tmp_path):
    environment = os.environ | {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": "bench da", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["data"], "")


def test_completion_can_be_shown(monkeypatch, bench):
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = bench("--show-completion", "bash")
    assert done.returncode == 0 and "_BENCH_COMPLETE=complete_bash" in done.stdout and not done.stderr


def test_python_m_bench_is_bench():
    done = subprocess.run([sys.executable, "-m", "bench", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"bench {__version__}\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("arguments", [("list",), ("list", "cards")])
def test_list_keeps_names_and_numbers_whole(bench, terminal, arguments, columns):
    plain = bench(*arguments).stdout
    text = terminal(columns, *arguments)
    assert text.split() == plain.split()
    assert max(map(len, text.splitlines())) <= columns


def test_a_preset_may_say_which_cells_there_are(bench, tmp_path):
    """In every stage, memory too; options of the command come last, and other sections change no sizes of memory."""
    (tmp_path / "own.toml").write_text(
        '[preset.mine.suite]\narchitectures = ["i-RIM"]\ntasks = ["blur"]\nstages = ["memory"]\n'
        "[preset.mine.model]\nstages = 2\n"
        '[task.blur]\noperator = "GaussianBlur"\noptions = { image_shape = [2, 16, 16] }\n'
    )
    run = ("run", "--config", "own.toml", "--preset", "mine", "--gpu-cap", "8GB")
    assert bench(*run).returncode == 0
    (record,) = (tmp_path / "results/runs/records").glob("*.json")
    assert record.name.startswith("blur--i-RIM--memory")
    assert json.loads(record.read_text())["settings"]["model"]["stages"] == 8
    assert bench(*run, "--architecture", "LU-DnCNN").returncode == 0
    assert len(list((tmp_path / "results/runs/records").glob("blur--LU-DnCNN--memory*.json"))) == 1
