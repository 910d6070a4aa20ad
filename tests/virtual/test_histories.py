"""PyTorch's CUDA code on the virtual card, held against what real cards did.

Strangers recorded the memory histories: five on H100s, with torch 2.6, one with torch 2.2 on a card that stages as one
of 72 multiprocessors, one with torch 2.1. The steps are rebuilt in tests/fidelity/transformer.py, counterfactual.py and
adapters.py and ran on the virtual card (tools/virtual_goldens), with the releases that bench is for and with those that
recorded them; 2.15 gives cuBLAS's workspaces back after each call, as these did not. The files are not part of the
repository.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from bench.memory import CARDS
from bench.memory.allocator.caching import FREE
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare, smallest_difference
from bench.virtual.goldens import read
from tests.fidelity import histories
from tools.virtual_goldens.kinds import KINDS

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
GOLDENS = {release: read(FOLDER / f"histories-{release}.json.xz") for release in ("2.6", "2.11", "2.13", "2.14")}

# Of each history: allocations and frees, and the most allocated and reserved, in bytes.
RECORDED = {
    "transformer_forward": (3213, 19_498_420_224, 19_667_091_456),
    "memory_ctx512_forward_mixed": (4116, 39_996_685_312, 40_514_879_488),
    "memory_ctx128_fullstep": (12665, 55_079_000_576, 61_111_009_280),
    "memory_ctx256_fullstep_": (12663, 54_961_465_856, 61_111_009_280),
    "memory_ctx512_fullstep_": (12663, 55_003_351_552, 62_830_673_920),
}


def test_there_is_an_answer_for_each_history():
    for goldens in GOLDENS.values():
        assert list(goldens.cells) == list(histories.STEPS) == list(RECORDED)
        card = CARDS[goldens.card]
        assert (card.compute_capability, card.multiprocessors) == ((9, 0), 132)
    assert sum(events for events, _, _ in RECORDED.values()) == 45_320


@pytest.mark.parametrize("release", GOLDENS)
@pytest.mark.parametrize("name", RECORDED)
def test_the_virtual_card_takes_what_the_real_one_took(name, release):
    golden = GOLDENS[release].cells[name]
    found = len(golden.events) - golden.setup, golden.peak_allocated_bytes, golden.peak_reserved_bytes
    assert found == RECORDED[name]


@pytest.mark.parametrize("release", GOLDENS)
@pytest.mark.parametrize("name", RECORDED)
def test_every_allocation_and_free_is_the_recorded_one(name, release):
    history = histories.read(name)
    if history is None:
        pytest.skip(f"no {name} in {histories.FOLDER}: histories are not part of the repository")
    golden = GOLDENS[release].cells[name]
    assert histories.signed(golden.events)[golden.setup :] == history.events
    assert RECORDED[name] == (len(history.events), history.peak_allocated_bytes, history.peak_reserved_bytes)


# Reductions whose one output several thread blocks share: staging and semaphores, and how often.
STAGING = {
    "memory_ctx128_fullstep": {164_626_432: 1, 10_485_760: 65, 16: 67},
    "memory_ctx256_fullstep_": {329_252_864: 1, 32: 67},
    "memory_ctx512_fullstep_": {553_648_128: 1, 41_943_040: 65, 64: 67},
}


@pytest.mark.parametrize("release", GOLDENS)
@pytest.mark.parametrize("name", STAGING)
def test_reductions_stage_what_they_staged_on_the_real_card(name, release):
    golden = GOLDENS[release].cells[name]
    taken = Counter(size for _, size in golden.events[golden.setup :])
    assert {size_bytes: taken[size_bytes] for size_bytes in STAGING[name]} == STAGING[name]


def test_frees_are_told_by_what_they_free():
    events = [(0, 100), (1, 200), (1, FREE), (2, 300), (0, FREE), (2, FREE)]
    assert histories.signed(events) == [
        100,
        200,
        -200,
        300,
        -100,
        -300,
    ]


RELEASES = "2.11", "2.13", "2.14", "2.15"
TURING, AMPERE = (
    {release: read(FOLDER / f"histories-{card}-{release}.json.xz") for release in RELEASES}
    for card in ("turing", "ampere")
)
CUBLAS, CUBLAS_LT = 8_519_680, 2**20


class Other(NamedTuple):
    """A history of another torch than any virtual card has.

    Attributes:
        goldens: The virtual card's, by release.
        earlier: Events of the history before the first step, which are the last of the golden's setup.
        recorded: Allocations and frees, and the most allocated and reserved.
        differences: By release: what the history has more, by bytes, and what the virtual card; how far the card's
            peaks are off.
    """

    goldens: dict[str, Any]
    earlier: int
    recorded: tuple[int, int, int]
    differences: dict[str, tuple[dict[int, int], dict[int, int], int, int]]


OTHERS = {
    # An image that is changed under anomaly detection, batch 1: the first ten updates, and the two images on their way
    # to the card before. With torch 2.2 a product with a bias takes a workspace of cuBLASLt's and gives it back, as
    # with 2.15 again, which keeps none of cuBLAS's. 2.11 keeps it, and those between have one for both.
    "cnn_conv_bn_pool": Other(
        TURING,
        2,
        (3861, 110_110_720, 134_217_728),
        {
            "2.11": ({CUBLAS_LT: 30, -CUBLAS_LT: 30}, {}, CUBLAS_LT, 2 * CUBLAS_LT),
            "2.13": ({CUBLAS_LT: 30, -CUBLAS_LT: 30}, {}, 0, 0),
            "2.14": ({CUBLAS_LT: 30, -CUBLAS_LT: 30}, {}, 0, 0),
            "2.15": ({}, {CUBLAS: 49, -CUBLAS: 50}, -17_825_792, -20_971_520),
        },
    ),
    # Adapters of a language model in four bits, batch 1, forward and backward. With every release the weights lie
    # otherwise in their segments than when the history begins. From 2.14 on each of 22 calls of memory-efficient
    # attention keeps a seed and a place.
    "transformer_course": Other(
        AMPERE,
        0,
        (6830, 5_914_094_592, 6_471_811_072),
        {
            "2.11": ({}, {}, -212_992, 14_680_064),
            "2.13": ({}, {}, -212_992, 14_680_064),
            "2.14": ({}, {8: 44, -8: 44}, -212_992 + 22 * 2 * 512, 14_680_064),
            "2.15": ({}, {CUBLAS: 574, -CUBLAS: 574, 8: 44, -8: 44}, -16_672_768, -6_291_456),
        },
    ),
}
IMAGE, ADAPTERS = OTHERS


def _events_of(name, release):
    """The virtual card's, from where the history begins."""
    golden = OTHERS[name].goldens[release].cells[name]
    return histories.signed(golden.events)[golden.setup - OTHERS[name].earlier :]


def test_the_card_that_stages_like_the_images_history():
    for golden in TURING.values():
        assert (CARDS[golden.card].multiprocessors, golden.steps) == (72, 10)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OTHERS)
def test_the_virtual_card_takes_as_many_bytes(name, release):
    other = OTHERS[name]
    more, less, allocated, reserved = other.differences[release]
    golden = other.goldens[release].cells[name]
    number, peak_allocated, peak_reserved = other.recorded
    assert len(_events_of(name, release)) == number - sum(more.values()) + sum(less.values())
    assert golden.peak_allocated_bytes == peak_allocated + allocated
    assert golden.peak_reserved_bytes == peak_reserved + reserved


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OTHERS)
def test_every_event_of_another_torch_is_the_recorded_one(name, release):
    history = histories.read(name)
    if history is None:
        pytest.skip(f"no {name} in {histories.FOLDER}: histories are not part of the repository")
    assert (len(history.events), history.peak_allocated_bytes, history.peak_reserved_bytes) == OTHERS[name].recorded
    events = _events_of(name, release)
    more, less, *_ = OTHERS[name].differences[release]
    of_history, of_card = smallest_difference(history.events, events)
    assert Counter(history.events[place] for place in of_history) == more
    assert Counter(events[place] for place in of_card) == less


# With the releases that recorded them (tools/virtual_goldens/older.py), and how far the peaks are off: the adapters'
# weights lie otherwise in their segments, as with every release.
OWN = {
    IMAGE: (read(FOLDER / "histories-turing-2.2.json.xz"), 0, 0),
    ADAPTERS: (read(FOLDER / "histories-ampere-2.1.json.xz"), -212_992, 14_680_064),
}


def _events_of_own(name):
    """From where the history begins."""
    golden = OWN[name][0].cells[name]
    return histories.signed(golden.events)[golden.setup - OTHERS[name].earlier :]


@pytest.mark.parametrize(
    ("name", "release", "kind"), [(IMAGE, "2.2.2+cu121", TURING), (ADAPTERS, "2.1.2+cu121", AMPERE)]
)
def test_the_release_that_recorded_it_takes_as_many_bytes(name, release, kind):
    goldens, allocated, reserved = OWN[name]
    later, golden = kind["2.14"], goldens.cells[name]
    assert (goldens.torch, goldens.cudnn, goldens.card, goldens.steps) == (release, "8.9.2", later.card, later.steps)
    found = (
        len(_events_of_own(name)),
        golden.peak_allocated_bytes - allocated,
        golden.peak_reserved_bytes - reserved,
    )
    assert found == OTHERS[name].recorded
    assert golden.lower_bounds == ()


def test_cudnn_of_that_release_takes_the_recorded_workspaces():
    """Three convolutions forward, one time more than updates, and three backward."""
    taken = Counter(size for _, size in OWN[IMAGE][0].cells[IMAGE].events)
    forward, backward = (82_880, 51_328, 205_056), (204_928, 84_032, 50_168)
    for size_bytes, times in (Counter(11 * forward) + Counter(10 * backward)).items():
        assert taken[size_bytes] == times, size_bytes


def test_that_release_takes_a_workspace_for_each_product_with_a_bias_and_no_other_thing_more():
    more = Counter(_events_of_own(IMAGE)) - Counter(_events_of(IMAGE, "2.14"))
    assert more == {CUBLAS_LT: 30, -CUBLAS_LT: 30}


@pytest.mark.parametrize("name", OWN)
def test_every_event_is_the_recorded_one_with_the_release_that_recorded_it(name):
    history = histories.read(name)
    if history is None:
        pytest.skip(f"no {name} in {histories.FOLDER}: histories are not part of the repository")
    assert _events_of_own(name) == history.events


@pytest.mark.parametrize("release", ("2.13", "2.14"))
def test_the_recording_changes_the_image_like_the_virtual_card(release):
    """But for the workspaces of its convolutions, three forward and three backward, which the low bound has not."""
    found = compare(KINDS["histories-turing"].recorded(IMAGE).at(1, Workspace.LOW), TURING[release].cells[IMAGE].events)
    assert (found.same, found.on_card, found.recorded) == (3784, Counter(), Counter())
    forward, backward = (82_944, 51_712, 205_312), (205_312, 84_480, 50_176)
    assert found.temporaries == Counter(11 * forward) + Counter(10 * backward)


RELEASE = ".".join(torch.__version__.split(".")[:2])


@pytest.mark.skipif(RELEASE not in AMPERE, reason=f"no answers of torch {RELEASE} are kept")
def test_the_recording_adapts_like_the_virtual_card():
    found = compare(
        KINDS["histories-ampere"].recorded(ADAPTERS).at(1, Workspace.LOW), AMPERE[RELEASE].cells[ADAPTERS].events
    )
    assert (found.on_card, found.recorded) == (Counter(), Counter())
    assert found.temporaries == Counter({CUBLAS: 574} if RELEASE == "2.15" else {})
