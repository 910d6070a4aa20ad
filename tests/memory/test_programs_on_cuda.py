"""What programs for a GPU find and may say in a recording: the machine, devices by number, copies, numbers."""

import copy

import pytest
import torch
from torch import nn

from bench.memory import CARDS
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of


def sizes(step):
    with on_cuda():
        return [each.size_bytes for each in events_of(lambda batch, device: step, 2, 1) if each.size_bytes > 0]


def test_of_a_card():
    with on_cuda(CARDS["T4"]) as asked:
        assert not asked.is_about_card
        properties = torch.cuda.get_device_properties()
        assert asked.is_about_card is True
        assert (properties.warp_size, properties.is_integrated, properties.is_multi_gpu_board) == (32, 0, 0)


@pytest.mark.parametrize(("card", "without_emulation"), [("T4", False), ("A100 40GB", True), ("H200", True)])
def test_bfloat16_is_there_with_emulation_or_from_ampere_on(card, without_emulation):
    with on_cuda(CARDS[card]):
        assert torch.cuda.is_bf16_supported() is True
        assert torch.cuda.is_bf16_supported(including_emulation=False) is without_emulation


def test_after_a_context_within_another_the_first_card_is_there_again():
    with on_cuda(CARDS["T4"]):
        with on_cuda(CARDS["H200"]):
            assert torch.cuda.get_device_capability() == (9, 0)
        assert torch.cuda.get_device_capability() == (7, 5)


def test_data_in_parallel_on_one_card_is_the_module():
    with on_cuda():
        found = nn.DataParallel(nn.Linear(3, 5).cuda())(torch.rand(2, 3, device="cuda"))
    assert found.shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "options", "is_cuda"),
    [
        ((0,), {}, True),
        ((), {"device": 0}, True),
        ((), {"device": "cuda", "dtype": torch.float16}, True),
        ((), {"device": "cpu"}, False),
        (("cpu",), {"non_blocking": True}, False),
        ((torch.float64,), {}, False),
    ],
)
def test_a_module_is_moved_to_where_it_is_told(arguments, options, is_cuda):
    with on_cuda():
        assert nn.Linear(2, 2).to(*arguments, **options).weight.is_cuda is is_cuda


def test_pinned_memory_is_the_hosts():
    with on_cuda():
        assert not torch.empty(3, pin_memory=True).is_cuda


@pytest.mark.parametrize("value", [True, 2, 1.5])
def test_a_number_that_is_written_stays_on_the_host(value):
    def step():
        torch.zeros(10, 25, device="cuda")[2:4] = value

    assert sizes(step) == [1000]


def test_copies_of_buffers_share_what_they_shared():
    """One of all of a storage for each, and a number that is there for a moment (Tensor.__deepcopy__)."""

    def step():
        rows = torch.zeros(10, 25, device="cuda")
        first, again, row = copy.deepcopy([rows, rows, rows[4:]])
        assert first is again and row.shape == (6, 25) and row.storage_offset() == 100
        assert row.untyped_storage()._cdata == first.untyped_storage()._cdata != rows.untyped_storage()._cdata

    assert sizes(step) == [1000, 1000, 4, 4]


def test_copies_of_what_is_no_plain_buffer_are_pytorchs():
    """A weight, and a tensor with attributes: the copy has them."""

    def step():
        weight = torch.zeros(250, device="cuda", requires_grad=True)
        named = torch.zeros(250, device="cuda")
        named.label = "kept"
        copied, other = copy.deepcopy(weight), copy.deepcopy(named)
        assert copied.requires_grad and other.label == "kept" and copied.is_leaf

    with on_cuda():
        events_of(lambda batch, device: step, 2, 1)
    on_the_host = torch.zeros(3)
    with on_cuda():
        assert torch.equal(copy.deepcopy(on_the_host), on_the_host)
