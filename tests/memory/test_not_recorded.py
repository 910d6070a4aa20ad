"""What torch.compile compiles runs as it is in a recording, which says so; PyTorch's own is there again after it."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch.autograd import forward_ad

from bench.memory.recording.not_recorded import NotRecordedWarning, compilation_said, scripts_left
from bench.memory.recording.refusals import without_data


def heard(run):
    """What a program gives within the context, and how often it is said that it compiles."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with compilation_said():
            found = run()
    return found, sum(each.category is NotRecordedWarning for each in caught)


@pytest.fixture
def compiler(monkeypatch):
    """PyTorch's compiler, imported, whose choice of a callback is "chosen"."""
    import torch._dynamo.eval_frame as compiler

    monkeypatch.setattr(compiler, "_callback_from_stance", lambda callback: "chosen")
    return compiler


def test_nothing_is_said_of_a_program_that_compiles_nothing():
    assert heard(lambda: 5) == (5, 0)


@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_compiled_within_runs_as_it_is(compiler, monkeypatch, is_known):
    """Whether or not the compiler was there before, whose choice of a callback can be replaced."""
    if not is_known:
        monkeypatch.delattr(compiler, "_callback_from_stance")
    compile_ = torch.compile

    def run():
        assert torch.compile is not compile_
        return torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist()

    assert heard(run) == ([2.0, 2.0], 1)
    assert torch.compile is compile_


@pytest.mark.parametrize(
    ("callback", "told", "times"), [(None, None, 0), (False, False, 0), (lambda *_: None, None, 1)]
)
def test_what_was_compiled_before_has_no_callback(compiler, callback, told, times):
    choose = compiler._callback_from_stance
    assert heard(lambda: compiler._callback_from_stance(callback)) == (told, times)
    assert compiler._callback_from_stance is choose


def test_one_of_several_is_said_once(compiler):
    def run():
        return [compiler._callback_from_stance(each) for each in (None, lambda: None, False)]

    assert heard(run) == ([None, None, False], 1)


def test_without_a_compiler_nothing_is_chosen(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo.eval_frame", None)
    assert heard(lambda: 5) == (5, 0)


HESSIAN = """
import torch
from torch.func import grad, jvp
from bench.memory import NotRecordableError
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

def make_step(batch, device):
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8)).to(device)
    x = torch.rand(batch, 8, device=device)
    return lambda: jvp(grad(lambda y: net(y).square().sum()), (x,), (torch.ones_like(x),))

with on_cuda():
    try:
        events_of(make_step, 2, 1)
    except NotRecordableError as error:
        print(error)
"""


def test_forward_derivatives_that_need_a_script_are_refused():
    """Others are recorded, with a warning; a Hessian through layer_norm needs the gradient's forward derivative.

    In a process of its own: once PyTorch has made its scripts, for whatever else, they are there.
    """
    said = subprocess.run([sys.executable, "-c", HESSIAN], check=True, capture_output=True, text=True)
    assert "forward derivative of native_layer_norm_backward" in said.stdout
    assert "NotRecordedWarning: forward derivatives" in said.stderr


def test_a_derivative_that_is_a_script_is_named():
    error = NotImplementedError("Trying to use forward AD with aten::mish that does not support it because ...")
    assert "needs the forward derivative of aten::mish, which PyTorch has as a script alone" in without_data(error)


def test_afterwards_pytorch_makes_its_scripts_again():
    load = forward_ad._maybe_load_decompositions
    with scripts_left(), pytest.warns(NotRecordedWarning, match="forward derivatives"):
        forward_ad._maybe_load_decompositions()
    assert forward_ad._maybe_load_decompositions is load
