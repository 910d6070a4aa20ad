"""The table of cards, and the names that people give them."""

import pytest

from bench.memory.cudnn.devices import LIMITS
from bench.memory.gpus import CARDS, Card, card_named, card_of_device
from bench.units import GiB, MiB

REFUSED = {"V100 16GB", "V100 32GB", "P100"}


def test_there_are_the_cards_that_people_ask_for():
    asked = (
        *("H100 PCIe", "H100 SXM", "H200", "A100 40GB", "A100 80GB", "L4", "L40S", "A10", "A40", "T4"),
        *("RTX A4000", "RTX A5000", "RTX A6000", "RTX 6000 Ada", "Quadro RTX 6000"),
        *("RTX 2060", "RTX 2060 SUPER", "RTX 2070", "RTX 2070 SUPER", "RTX 2080", "RTX 2080 SUPER", "RTX 2080 Ti"),
        *("RTX 3060 12GB", "RTX 3060 Ti", "RTX 3070", "RTX 3070 Ti", "RTX 3080", "RTX 3080 12GB", "RTX 3080 Ti"),
        *("RTX 3090", "RTX 3090 Ti", "RTX 4060", "RTX 4060 Ti 8GB", "RTX 4060 Ti 16GB", "RTX 4070", "RTX 4070 SUPER"),
        *("RTX 4070 Ti", "RTX 4070 Ti SUPER", "RTX 4080", "RTX 4080 SUPER", "RTX 4090"),
        *("RTX 5060", "RTX 5060 Ti 8GB", "RTX 5060 Ti 16GB", "RTX 5070", "RTX 5070 Ti", "RTX 5080", "RTX 5090"),
    )
    assert set(CARDS) >= {*asked, *REFUSED}


@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
def test_figures_are_whole_and_have_a_source(card):
    assert card.source and card.chip and card.chip.device_names
    assert 0.9 * card.capacity_gib * GiB < card.total_bytes < card.capacity_gib * GiB
    assert card.total_bytes - card.usable_bytes == 500 * MiB
    assert (card.compute_capability in LIMITS) is (card.name not in REFUSED)
    assert 24 <= card.multiprocessors <= 170
    assert 64 <= card.chip.memory_bus_bits <= 6144 and card.chip.memory_bus_bits % 32 == 0


def test_some_figures():
    """As their sources have them, to the byte."""
    assert CARDS["RTX 4090"].total_bytes == 25_250_627_584
    assert CARDS["RTX 3080"].total_bytes == int(9.78 * GiB)
    assert (CARDS["H100 PCIe"].multiprocessors, CARDS["H100 SXM"].multiprocessors) == (114, 132)
    assert CARDS["RTX 4090"].chip.l2_cache_bytes == 75_497_472
    assert CARDS["RTX 5090"].compute_capability == (12, 0)
    chip = CARDS["RTX 4090"].chip
    assert (chip.clock_khz, chip.memory_clock_khz, chip.memory_bus_bits) == (
        2_520_000,
        10_501_000,
        384,
    )  # cudaDeviceProp


SOLD_GIB = (2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 141)


@pytest.mark.parametrize("size", SOLD_GIB)
def test_the_capacity_is_the_size_that_is_sold(size):
    for total_bytes in (size * GiB, size * GiB - 100 * MiB):
        assert Card("", total_bytes, 0, None, None, "").capacity_gib == size
    more = next((other for other in SOLD_GIB if other > size), size + 1)
    assert Card("", size * GiB + 1, 0, None, None, "").capacity_gib == more


@pytest.mark.parametrize(
    ("capability", "threads"),
    [
        ((6, 0), 2048),
        ((7, 0), 2048),
        ((7, 5), 1024),
        ((8, 0), 2048),
        ((8, 6), 1536),
        ((8, 9), 1536),
        ((9, 0), 2048),
        ((10, 0), 2048),
    ],
)
def test_threads_of_a_multiprocessor(capability, threads):
    """As the CUDA programming guide's table of technical specifications has them."""
    assert Card("", GiB, 0, capability, 7, "").multiprocessors_and_threads == (7, threads)
    assert Card("", GiB, 0, capability, None, "").multiprocessors_and_threads is None
    assert Card("", GiB, 0, None, 7, "").multiprocessors_and_threads is None


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("RTX-4090", "RTX 4090"),
        (" NVIDIA  GeForce RTX 4090 ", "RTX 4090"),
        ("4090 24GB", "RTX 4090"),
        ("4060", "RTX 4060"),
        ("4060 Ti 16 GB", "RTX 4060 Ti 16GB"),
        ("rtx4060ti-8gb", "RTX 4060 Ti 8GB"),
        ("4070tisuper", "RTX 4070 Ti SUPER"),
        ("4070 super", "RTX 4070 SUPER"),
        ("3060", "RTX 3060 12GB"),
        ("3080", "RTX 3080"),
        ("RTX 3080 10GB", "RTX 3080"),
        ("3080 12GB", "RTX 3080 12GB"),
        ("A100-80GB", "A100 80GB"),
        ("A100 40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("H100 SXM5", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("h100-pcie", "H100 PCIe"),
        ("Tesla T4", "T4"),
        ("A6000", "RTX A6000"),
        ("6000 Ada", "RTX 6000 Ada"),
        ("quadro rtx 6000", "Quadro RTX 6000"),
    ],
)
def test_names_as_people_write_them(written, name):
    assert card_named(written) is CARDS[name]


@pytest.mark.parametrize(("name", "card"), CARDS.items())
def test_every_card_is_found_by_its_own_names(name, card):
    if card.refusal:
        return
    assert card_named(name) is card_named(name.casefold()) is card
    for device in card.chip.device_names:
        try:
            assert card_named(device) is card
        except ValueError as error:
            assert "is the name of several cards" in str(error)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("H100", "'H100' is the name of several cards: give one of H100 PCIe, H100 SXM"),
        ("A100", "'A100' is the name of several cards: give one of A100 40GB, A100 80GB"),
        ("4060 ti", "'4060 ti' is the name of several cards: give one of RTX 4060 Ti 8GB, RTX 4060 Ti 16GB"),
        ("RTX 6000", "'RTX 6000' is the name of several cards: give one of Quadro RTX 6000, RTX 6000 Ada"),
        (
            "RTX 9999",
            "unknown card 'RTX 9999': the nearest are RTX 3090, RTX 4090, RTX 5090 (see `bench",
        ),
        ("RTX 3080 Laptop GPU", "unknown card 'RTX 3080 Laptop GPU': the nearest are RTX 3080"),
        ("banana", "unknown card 'banana': none is near (see `bench list`); or give a capacity, such as 8GB"),
        ("", "unknown card '': none is near"),
        ("RTX", "unknown card 'RTX': "),
        ("V100", "cuDNN does not know V100 16GB any more: it has compute capability 7.0, and cuDNN 9.11 and later"),
        ("P100", "it has compute capability 6.0"),
    ],
)
def test_what_is_no_one_card_is_one_sentence(written, says):
    with pytest.raises(ValueError) as error:
        card_named(written)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_cards_of_ones_own_come_first():
    mine = Card("RTX 4090", 20 * GiB, 500 * MiB, None, None, "made up")
    other = Card("my card", 20 * GiB, 500 * MiB, None, None, "made up")
    assert card_named("rtx 4090", [mine, other]) is mine
    assert card_named("My  Card", [mine, other]) is other
    assert card_named("4080", [mine, other]) is CARDS["RTX 4080"]


def test_devices_are_known_by_what_cuda_calls_them():
    assert card_of_device("NVIDIA GeForce RTX 3080 Ti") is CARDS["RTX 3080 Ti"]
    assert card_of_device("NVIDIA A100-SXM4-40GB") is CARDS["A100 40GB"]
    assert card_of_device("NVIDIA GeForce RTX 3080 Laptop GPU") is None
    assert card_of_device("NVIDIA GeForce RTX 4060 Ti") is None  # of 8 or 16 GB


@pytest.mark.parametrize(
    ("capability", "config"),
    [
        *((capability, ":4096:2:16:8") for capability in ((7, 5), (8, 0), (8, 6), (8, 9), (11, 0), None)),
        *((capability, ":4096:8") for capability in ((9, 0), (10, 0), (10, 3), (12, 0))),
    ],
)
def test_cublas_has_the_large_workspace_on_hopper_and_blackwell(capability, config):
    """parseChosenWorkspaceSize in PyTorch's CublasHandlePool.cpp."""
    assert Card("", GiB, 0, capability, None, "").cublas_workspace_config == config


def test_of_several_cards_with_a_name_one_that_is_known_is_asked_for():
    """Where some are refused, the others are still to be chosen from."""
    old, new = (
        Card(f"Z9 {size}", 8 * GiB, 0, capability, 40, "") for size, capability in (("1", (7, 0)), ("2", (8, 0)))
    )
    with pytest.raises(ValueError, match="'z9' is the name of several cards: give one of Z9 1, Z9 2"):
        card_named("z9", [old, new])


def test_of_names_that_are_written_alike_the_first_is_taken():
    one, other = (Card(name, 8 * GiB, 0, (8, 0), 40, "") for name in ("My-Card", "my card"))
    assert card_named("MY CARD", [one, other]) is one
