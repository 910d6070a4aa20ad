"""What short functions answer: the environment, cards' figures, errors' sentences, loaders, one-hot numbers."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bench.memory import CARDS, record
from bench.memory.by_card import StepByCard
from bench.memory.environment import check_cached, told
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.outside import nothing_outside
from bench.memory.recording.places import SaidError, place, sentence
from bench.memory.recording.recorder import events_of
from bench.memory.recording.surroundings import no_inference_tensors
from bench.memory.simulated import SimulatedEngine


def test_what_the_environment_tells():
    environment = {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "HOME": "/"}
    assert list(map(str, told(environment))) == [
        "PYTORCH_ALLOC_CONF=max_split_size_mb:64",
        "CUBLAS_WORKSPACE_CONFIG=:16:8",
    ]
    check_cached(environment)
    environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    assert str(told(environment)[-1]) == "PYTORCH_NO_CUDA_MEMORY_CACHING=1"
    with pytest.raises(ValueError, match="switches PyTorch's caching allocator off"):
        check_cached(environment)
    assert told({}) == []


def test_what_of_a_card_the_allocator_may_take():
    half = replace(CARDS["RTX 3080"], memory_fraction=0.5, cublas_workspace=":16:8")
    assert half.usable_bytes == half.total_bytes // 2
    assert replace(half, memory_fraction=1.0).usable_bytes == half.total_bytes - half.context_bytes
    assert half.cublas_workspace_config == ":16:8" and replace(half, cublas_workspace="no such").cublas_workspace_bytes
    endless = half.without_limit()
    assert (endless.usable_bytes, endless.memory_fraction) == (endless.total_bytes, 1.0)


def capped(*fractions):
    def make_step(batch, device):
        def step():
            for fraction in fractions:
                torch.cuda.set_per_process_memory_fraction(fraction)
            torch.cuda.memory._set_allocator_settings("max_split_size_mb:64")
            return torch.rand(batch, 1000, device="cuda").sum()

        return step

    with on_cuda(CARDS["RTX 3080"]):
        return record(make_step)


def test_a_trace_knows_what_the_program_told_last():
    trace = capped(0.75, 0.25)
    assert trace.memory_fraction == 0.25
    assert set(trace.allocator_options.split(",")) == {"max_split_size_mb:64"}
    engine = SimulatedEngine(trace, CARDS["RTX 3080"])
    assert engine.card.memory_fraction == 0.25
    assert engine.without_limit().card == engine.card.without_limit()
    plain = record(lambda batch, device: lambda: torch.rand(batch, 8, device=device))
    assert (plain.memory_fraction, plain.allocator_options) == (1.0, "")
    assert SimulatedEngine(plain, CARDS["RTX 3080"]).card.memory_fraction == 1.0


def test_an_error_that_is_said_already_is_said_as_it_is():
    cause = ValueError("no such mode")
    said = SaidError("ValueError: no such mode (train.py:12)")
    assert sentence(said) == "ValueError: no such mode (train.py:12)"
    assert place(said) == place(cause) == ""
    try:
        exec(compile("1 / 0", "/somebody/train.py", "exec"))
    except ZeroDivisionError as error:
        said.__cause__ = error
    assert "train.py:1" in place(said)
    assert sentence(KeyError("RANK")).startswith("KeyError: 'RANK', which torchrun sets: ask with RANK=0")
    assert sentence(KeyError("rank")) == "KeyError: 'rank'"


def test_loaders_work_in_this_process_and_nothing_is_started():
    begun = []
    data = TensorDataset(torch.arange(6))
    with nothing_outside():
        alone = DataLoader(data, 2)
        workers = DataLoader(data, 2, num_workers=2, timeout=5, worker_init_fn=begun.append)
        assert (
            [each[0].tolist() for each in workers] == [each[0].tolist() for each in alone] == [[0, 1], [2, 3], [4, 5]]
        )
        others = {"num_workers": 2}, {"worker_init_fn": begun.append}
        assert [len(list(DataLoader(data, 2, **options))) for options in others] == [3, 3]
        assert begun == [0]
        with pytest.raises(RuntimeError, match="the step starts processes"):
            torch.multiprocessing.spawn(print)
    assert workers.num_workers == 2


@pytest.mark.parametrize("classes", [[0, 2, 1], [[1], [0]]])
def test_one_hot_numbers_have_as_many_classes_as_the_largest_says(classes):
    made = []

    def make_step(batch, device):
        return lambda: made.append(torch.nn.functional.one_hot(torch.tensor(classes, device="cuda")))

    with on_cuda():
        events_of(make_step, 1, 1)
    assert made[-1].shape == torch.nn.functional.one_hot(torch.tensor(classes)).shape


@pytest.mark.parametrize("number", [-1, 0])
def test_how_many_classes_nothing_has_is_refused_as_by_pytorch(number):
    def make_step(batch, device):
        classes = torch.empty(0, dtype=torch.int64, device="cuda")
        return lambda: torch.nn.functional.one_hot(classes, number)

    with pytest.raises(RuntimeError) as expected:
        torch.nn.functional.one_hot(torch.empty(0, dtype=torch.int64), number)
    with on_cuda(), pytest.raises(RuntimeError, match=str(expected.value)):
        events_of(make_step, 1, 1)


@pytest.mark.parametrize("is_on", [True, False])
def test_inference_mode_is_no_grad_and_ends(is_on):
    with no_inference_tensors():
        with torch.inference_mode(is_on):
            assert torch.is_grad_enabled() is not is_on and not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_a_step_that_asks_for_its_card_is_recorded_for_each():
    asked = []

    def make_step(batch, device):
        def step():
            if len(asked) < 2:  # at the first recording alone
                torch.cuda.get_device_capability()
            asked.append(batch)
            torch.rand(batch, device="cuda")

        return step

    step = StepByCard(make_step, first=CARDS["T4"])
    times = len(asked)
    step.on(CARDS["H200"])
    assert len(asked) > times
    times = len(asked)
    step.on(CARDS["RTX 3080"])
    assert len(asked) > times
