"""What a program tells PyTorch's allocator is heard in a recording, with PyTorch's own errors."""

import pytest
import torch

from bench.memory.recording.allocator_told import (
    allocator_heard,
    set_allocator_settings,
    set_per_process_memory_fraction,
)
from bench.memory.recording.on_cuda import on_cuda

CAPPED = "torch.cuda.set_per_process_memory_fraction"


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_fraction_is_told(fraction):
    heard = []
    with allocator_heard(heard.append):
        set_per_process_memory_fraction(fraction)
    set_per_process_memory_fraction(0.25)  # to nobody
    assert heard == [f"{CAPPED} {fraction}"]


@pytest.mark.parametrize(
    ("fraction", "error", "said"),
    [(1, TypeError, "must be `float`"), (-0.1, ValueError, "Allowed range: 0~1"), (1.5, ValueError, "1.5")],
)
def test_what_pytorch_refuses_is_refused(fraction, error, said):
    heard = []
    with allocator_heard(heard.append), pytest.raises(error, match=said):
        set_per_process_memory_fraction(fraction)
    assert heard == []


def test_options_are_told_and_those_that_there_are_not_are_refused():
    heard = []
    with allocator_heard(heard.append):
        set_allocator_settings("max_split_size_mb:64")
        with pytest.raises(ValueError, match="no_such_option"):
            set_allocator_settings("no_such_option:1")
    (told,) = heard
    assert told.endswith(" max_split_size_mb:64")


def test_a_program_finds_them_where_pytorch_has_its_own():
    heard = []
    with on_cuda(), allocator_heard(heard.append):
        torch.cuda.set_per_process_memory_fraction(0.5)
        torch.cuda.memory.set_per_process_memory_fraction(0.25)
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    assert [each.rpartition(" ")[2] for each in heard] == ["0.5", "0.25", "expandable_segments:True"]
