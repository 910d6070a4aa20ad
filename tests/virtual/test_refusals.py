"""Where there can be no virtual card: one sentence, exit code 2, whichever command asked for it."""

import platform
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from bench import doctor
from bench.virtual import NoVirtualCardError, library
from bench.virtual.__main__ import main

needs_a_compiler = pytest.mark.skipif(
    f"{platform.system()} {platform.machine()}" != "Linux x86_64" or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="builds the library: needs Linux on x86_64 and a C compiler",
)


def another_system(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.system", lambda: "Darwin")


def another_processor(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


def a_build_without_cuda(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)


def a_build_for_another_cuda(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", "14.1")


def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)


def a_compiler_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/nowhere/cc -O2")


def no_program(monkeypatch, tmp_path):
    (tmp_path / "cc").write_bytes(b"\x7fELF")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "cc"))


def a_compiler_that_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")


def a_refused_preload(monkeypatch, tmp_path):
    """As where the loader ignores a library in a folder whose files may not be executed."""
    monkeypatch.setattr(library, "_TRIAL", TRIED)
    monkeypatch.setattr(library, "preloads", lambda folder: "")


def unknown_symbols(monkeypatch, tmp_path):
    """As where a library of PyTorch's needs what nobody answers."""
    monkeypatch.setattr(library, "_TRIAL", "raise ImportError('undefined symbol: cudaNew')")


def a_trial_that_dies(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_TRIAL", "import os; os._exit(7)")


def a_damaged_library(monkeypatch, tmp_path):
    (tmp_path / "torch/lib").mkdir(parents=True)
    (tmp_path / "torch/lib/libtorch_cuda.so").write_text("")


def no_place(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))


TRIED = library._TRIAL.replace("import torch", "")
BEFORE_IT_IS_BUILT = {
    another_system: "the virtual engine needs Linux on x86_64, this is Darwin on x86_64: use --engine simulated",
    another_processor: "the virtual engine needs Linux on x86_64, this is Linux on aarch64: use --engine simulated",
    a_build_without_cuda: "the virtual engine needs a CUDA build of PyTorch, but VERSION is built without CUDA: pip "
    "install torch from PyPI in an environment of its own, or use --engine simulated",
    a_build_for_another_cuda: "the virtual engine knows builds of PyTorch for CUDA 12 and 13, but VERSION is for "
    "CUDA 14.1: install another build, or use --engine simulated",
    no_compiler: "the virtual engine needs a C compiler once, and there is none of cc, gcc, clang: install one "
    "(apt-get install gcc), or name it in CC",
    a_compiler_that_is_not_there: "there is no C compiler /nowhere/cc, which CC names: name another in CC",
}
WHEN_IT_IS_BUILT = {
    no_program: "the C compiler does not start ([Errno 8] Exec format error: 'FOLDER/cc'): name another in CC",
    a_compiler_that_fails: "false cannot build the virtual card (exit code 1): name another in CC",
    a_refused_preload: "this system refuses to preload the virtual card's library from FOLDER/cache/bench/virtual-"
    "card: set XDG_CACHE_HOME to a folder whose files may be executed",
    unknown_symbols: "torch VERSION cannot be imported on the virtual card (ImportError: undefined symbol: cudaNew): "
    "install another build, or use --engine simulated",
    a_trial_that_dies: "torch VERSION cannot be imported on the virtual card (exit code 7): install another build, or "
    "use --engine simulated",
    a_damaged_library: "FOLDER/torch/lib/libtorch_cuda.so is no shared library of 64-bit Linux with dynamic symbols: "
    "install torch again",
    no_place: "no place to keep the virtual card ([Errno 20] Not a directory: 'FOLDER/file/bench/virtual-card'): set "
    "XDG_CACHE_HOME",
}
SENTENCES = BEFORE_IT_IS_BUILT | WHEN_IT_IS_BUILT


@pytest.fixture(
    params=[*BEFORE_IT_IS_BUILT, *(pytest.param(each, marks=needs_a_compiler) for each in WHEN_IT_IS_BUILT)],
    ids=lambda each: each.__name__,
)
def refusal(request, cuda_build, monkeypatch, tmp_path):
    """A machine that is one thing short of a virtual card, and the sentence that says so."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    request.param(monkeypatch, tmp_path)
    return SENTENCES[request.param].replace("VERSION", torch.__version__).replace("FOLDER", str(tmp_path))


def test_it_is_one_sentence_and_nothing_is_kept(refusal, cuda_build):
    with pytest.raises(NoVirtualCardError) as error:
        library.environment()
    assert str(error.value) == refusal
    assert not cuda_build.is_dir() or not list(cuda_build.iterdir())


STEP = "import torch\n\ndef make_step(batch, device):\n    return lambda: torch.empty(batch, 2**20, device=device)\n"
SNAPSHOT = Path(__file__).parents[1] / "golden/virtual/snapshot-2.14.pickle"
CELL = "--architecture DEQ4IP --task deblurring"


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "validate",
        f"explain {CELL}",
        "explain train.py:make_step",
        "fit train.py:make_step",
        f"validate --snapshot {SNAPSHOT} --step train.py:make_step --batch 2",
    ],
    ids=["run", "validate", "explain a cell", "explain a step", "fit", "validate a history"],
)
def test_each_command_says_it_and_ends_with_2(bench, refusal, tmp_path, command):
    (tmp_path / "train.py").write_text(STEP)
    result = bench(*shlex.split(command), "--engine", "virtual", "--gpu", "RTX 3080")
    if command == "validate":  # the recording is what it holds against the card
        refusal = refusal.replace(", or use --engine simulated", "")
        refusal = refusal.replace("use --engine simulated", "run it where there is one")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"bench: {refusal}\n")
    assert not (tmp_path / "results").exists()


def test_a_script_is_not_begun(refusal, monkeypatch, capsys, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("raise AssertionError")
    monkeypatch.setattr(sys, "argv", ["bench.virtual", "RTX 3080", str(script)])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (2, f"bench: {refusal}\n")


def test_auto_is_the_recording_then(bench, refusal, tmp_path):
    (tmp_path / "train.py").write_text(STEP)
    result = bench("fit", "train.py:make_step", "--gpu", "RTX 3080")
    assert (result.returncode, result.stderr) == (0, "")
    assert "| RTX 3080 " in result.stdout


def test_doctor_says_what_would_add_it(refusal):
    """What shows before anything is built, which doctor does not do."""
    (part,) = doctor.virtual_card()
    if refusal in {text.replace("VERSION", torch.__version__) for text in BEFORE_IT_IS_BUILT.values()}:
        reason, _, remedy = refusal.partition(": ")
        adds = f"`--engine virtual`: PyTorch's own CUDA code, without a GPU: {remedy}"
        assert (part.name, part.state, part.found, part.adds) == ("virtual card", "missing", reason, adds)
    else:
        assert part.state == "fine"
