"""A backward pass on the virtual card returns when its threads have nothing left to do."""

import threading

import pytest
import torch

from bench.virtual import gradient_threads

PAST_ITSELF = "(name (of) a thread) S 1"  # a name may hold brackets


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """This process's threads, as /proc says: by number what it says at each look; the last for ever."""

    def tasks(**says):
        looks = {number: iter(each) for number, each in says.items()}
        now = dict.fromkeys(says, "")

        def pause(seconds):
            pauses.append(seconds)
            for number, each in looks.items():
                now[number] = next(each, now[number])
                folder = tmp_path / number.removeprefix("t")
                folder.mkdir(exist_ok=True)
                (folder / "stat").write_text(f"{folder.name} {now[number]}")

        pauses = []
        monkeypatch.setattr(gradient_threads, "_TASKS", tmp_path)
        monkeypatch.setattr(gradient_threads.time, "sleep", pause)
        return pauses

    return tasks


def gradient():
    values = torch.ones(3, requires_grad=True)
    with gradient_threads.done_before_the_program_goes_on():
        values.sum().backward()
        (other,) = torch.autograd.grad(values.exp().sum(), values)
    assert values.grad.tolist() == [1, 1, 1]
    assert other.equal(values.exp())


def test_it_waits_until_each_thread_waited_twice_in_a_row(tasks):
    running, waiting = "(pt_autograd_0) R 1", "(pt_autograd_0) S 1"
    pauses = tasks(t1=[running, waiting, running, waiting], t2=["(pt_autograd_1) S 1"], t3=[PAST_ITSELF])
    gradient()
    assert len(pauses) == 5 + 2


def test_other_threads_and_the_one_itself_may_run(tasks):
    pauses = tasks(t1=["(python) R 1"], **{f"t{threading.get_native_id()}": ["(pt_autograd_0) R 1"]})
    gradient()
    assert len(pauses) == 2 + 2


def test_it_does_not_wait_for_ever(tasks, monkeypatch):
    monkeypatch.setattr(gradient_threads, "_SECONDS", 0.001)
    assert tasks(t1=["(pt_autograd_0) R 1"]) == []
    gradient()


def test_afterwards_pytorch_is_as_it_was():
    before = torch.autograd.graph._engine_run_backward
    gradient()
    assert torch.autograd.graph._engine_run_backward is torch.autograd._engine_run_backward is before
