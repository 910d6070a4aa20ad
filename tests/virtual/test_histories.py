"""PyTorch's CUDA code on the virtual card, held against what real cards did.

Strangers recorded the memory histories on H100s, with torch 2.6. The steps are rebuilt in tests/fidelity/transformer.py
and ran on the virtual card with torch 2.11, 2.13 and 2.14 (tools/virtual_goldens); 2.15 gives cuBLAS's workspaces back
after each call, as 2.6 did not. The files are not part of the repository.
"""

from collections import Counter
from pathlib import Path

import pytest

from bench.memory import CARDS
from bench.virtual.goldens import read
from tests.fidelity import histories

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
GOLDENS = {release: read(FOLDER / f"histories-{release}.json.xz") for release in ("2.11", "2.13", "2.14")}

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
    taken = Counter(golden.events[golden.setup :])
    assert {size_bytes: taken[size_bytes] for size_bytes in STAGING[name]} == STAGING[name]


def test_frees_are_told_by_what_they_free():
    assert histories.signed([100, 200, -1, 300, -3, -1]) == [100, 200, -200, 300, -100, -300]
