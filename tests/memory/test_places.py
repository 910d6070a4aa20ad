"""Where an error arose, in words: programs with files of made-up names, which have no source lines to show."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bench
from bench.memory.recording.places import _line, line_of, place, short, told


def program(file, text, **names):
    exec(compile(text, file, "exec"), names)
    return names


def error_of(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def test_an_error_is_told_with_its_type():
    assert told(ValueError("no\n  such mode")) == "ValueError: no such mode"
    assert told(KeyError()) == "KeyError"


def test_a_message_is_one_sentence_without_numbers_of_tensors():
    where = torch.distributions.Normal
    told_by_torch = told(error_of(lambda: where(torch.zeros(2), -torch.ones(2))))
    assert told_by_torch.endswith("to satisfy the constraint GreaterThan(lower_bound=0.0)")
    checked = 'end INTERNAL ASSERT FAILED at "/src/Mode.cu":80, please report a bug to PyTorch. it is gone'
    assert told(RuntimeError(checked)) == "RuntimeError: end fails (Mode.cu:80) it is gone"
    assert told(RuntimeError("x" * 300)) == "RuntimeError: " + "x" * 300
    assert told(RuntimeError("x" * 301)) == "RuntimeError: " + "x" * 300 + " ..."


def test_the_place_is_the_users_line_and_that_of_the_library():
    library = program("/opt/site-packages/lib/x.py", "def fail():\n    raise ValueError")
    step = program("/project/train.py", "def step():\n    1\n    fail()", **library)["step"]
    assert place(error_of(step)) == "/project/train.py:3, in step; raised at lib/x.py:2"
    own = program("/project/train.py", "def step():\n    raise ValueError")["step"]
    assert place(error_of(own)) == "/project/train.py:2, in step"


def test_of_what_is_raised_in_this_package_the_users_line_is_enough():
    ours = program(str(Path(bench.__file__).with_name("ours.py")), "def fail():\n    raise ValueError")
    step = program("/project/train.py", "def step():\n    fail()", **ours)["step"]
    assert place(error_of(step)) == "/project/train.py:2, in step"


STANDARD = os.path.join(sysconfig.get_path("stdlib"), "contextlib.py")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (["/project/train.py", STANDARD], "/project/train.py:1"),
        (["/project/train.py", "<frozen importlib._bootstrap>"], "/project/train.py:1"),
        (["/opt/site-packages/lib/step.py", torch.__file__, STANDARD], "lib/step.py:1"),
        ([torch.__file__, STANDARD], ""),
    ],
)
def test_the_line_is_a_step_s_own_installed_or_not(files, line):
    frames = [traceback.FrameSummary(file, 1, "<module>", lookup_line=False, line="") for file in files]
    assert line_of(traceback.StackSummary.from_list(frames)) == line


def test_the_innermost_of_the_users_lines_counts():
    inner = program("/project/loss.py", "def loss():\n    return 1 / 0")
    step = program("/project/train.py", "def step():\n    loss()", **inner)["step"]
    assert place(error_of(step)) == "/project/loss.py:2, in loss"


def test_lines_outside_functions_and_errors_of_syntax():
    assert place(error_of(lambda: program("/project/train.py", "1\n1 / 0"))) == "/project/train.py:2"
    assert place(error_of(lambda: program("/project/train.py", "1\n1 +"))) == "/project/train.py:2: `1 +`"


def test_no_place_where_nobody_called():
    assert place(ValueError("made, never raised")) == ""
    assert line_of(traceback.StackSummary()) == ""


@given(length=st.integers(1, 120))
def test_long_lines_are_cut(length):
    source = "x" * length
    shown = source if length <= 100 else "x" * 100 + " ..."
    assert _line("/a.py", 3, "f", f"  {source}\n") == f"/a.py:3, in f: `{shown}`"


def test_files_are_called_from_their_package_or_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert short("/opt/lib/python3/site-packages/torch/nn/x.py") == "torch/nn/x.py"
    assert short(os.path.join(sysconfig.get_path("stdlib"), "json", "decoder.py")) == "json/decoder.py"
    assert short(str(tmp_path / "here" / "a" / "train.py")) == "a/train.py"
    assert short(str(tmp_path / "train.py")) == str(tmp_path / "train.py")
    assert short("a/train.py") == "a/train.py"
    monkeypatch.chdir(tmp_path)
    assert short("train.py") == "train.py"
