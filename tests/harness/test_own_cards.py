"""Cards of one's own: [cards.NAME] in bench.toml."""

import json

import pytest

from bench.config import load
from bench.step_memory import chosen_card
from bench.units import GiB, MiB

CARD = '[cards."my card"]\ntotal = "6GB"\ncontext = "400MiB"\ncapability = "8.9"\nmultiprocessors = 20\n'


def test_a_card_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.toml").write_text(CARD + '[suite]\ngpus = ["My Card", "rtx4090", "MY CARD"]\n')
    config = load()
    assert config.suite.gpus == ("my card", "RTX 4090")
    (card,) = config.own_cards
    assert (card.name, card.total_bytes, card.context_bytes) == ("my card", 6 * GiB, 400 * MiB)
    assert (card.compute_capability, card.multiprocessors) == ((8, 9), 20)
    assert card.chip.memory_bus_bits == 128  # of the RTX 4060, whose 24 multiprocessors are the nearest
    assert chosen_card(None, "my card") == card


def test_all_figures_can_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = 'clock_mhz = 1000\nmemory_clock_mhz = 2000\nmemory_bus_bits = 64\nl2 = "1MiB"\n'
    (tmp_path / "bench.toml").write_text(CARD + figures)
    chip = load().own_cards[0].chip
    assert (chip.clock_khz, chip.memory_clock_khz) == (1_000_000, 2_000_000)
    assert (chip.memory_bus_bits, chip.l2_cache_bytes) == (64, MiB)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ('total = "6 gigs"', "bench.toml line 2: cards.mine.total: '6 gigs' is not a memory size"),
        ('context = "1GB"', "bench.toml line 1: cards.mine.total: is missing"),
        ('total = "1GB"\ncontext = "2GB"', "total is 1GB, and the CUDA context alone takes 2GB"),
        ('total = "6GB"\ncapability = "8.9"', "capability and multiprocessors belong together"),
        ('total = "6GB"\nmultiprocessors = 20', "capability and multiprocessors belong together"),
        ('total = "6GB"\ncapability = "7.0"\nmultiprocessors = 80', "line 3: cards.mine.capability: unknown compute"),
        (
            'total = "6GB"\ncapability = 8.9\nmultiprocessors = 80',
            "line 3: cards.mine.capability: got 8.9, expected",
        ),
        (
            'total = "6GB"\ncapability = "8.9"\nmultiprocessors = 0',
            "line 4: cards.mine.multiprocessors: got 0",
        ),
        ('total = "6GB"\nbus = 3', "line 3: cards.mine.bus: unknown key"),
    ],
)
def test_what_is_wrong_is_blamed_on_file_and_line(card, says, bench, tmp_path):
    (tmp_path / "bench.toml").write_text(f"[cards.mine]\n{card}\n")
    result = bench("list", "cards")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert says in result.stderr
    with pytest.raises(ValueError, match=r"bench\.toml"):
        chosen_card(None, "mine")


def test_a_name_of_no_card_is_blamed_on_file_and_line(bench, tmp_path):
    (tmp_path / "bench.toml").write_text('[suite]\ngpus = ["T4", "H100"]\n')
    result = bench("list")
    assert result.returncode == 2
    assert result.stderr == (
        "bench: bench.toml line 2: suite.gpus.1: 'H100' is the name of several cards: give one of H100 PCIe, H100 SXM\n"
    )


def test_a_run_on_a_card_of_ones_own_and_on_one_that_is_refused(bench, tmp_path):
    small = '[task.blur]\noperator = "GaussianBlur"\noptions = { image_shape = [3, 32, 32] }\n'
    suite = '[suite]\narchitectures = ["LU-DnCNN"]\ntasks = ["blur"]\nstages = ["memory"]\n'
    (tmp_path / "bench.toml").write_text(CARD + small + suite)
    result = bench("run", "--gpu", "MY card", "--gpu-cap", "2GB", "--json", "--jobs", "1")
    assert result.returncode == 0, result.stderr
    found = {card["card"]: card for card in json.loads(result.stdout)[0]["memory"]["cards"]}
    assert found["my card"]["total_bytes"] == 6 * GiB and found["my card"]["context_bytes"] == 400 * MiB
    assert set(found["2GB"]["edges"]) == {"low", "high"}
    refused = bench("run", "--gpu", "V100 16GB")
    assert refused.returncode == 2
    assert refused.stderr.startswith("bench: --gpu: cuDNN does not know V100 16GB any more: ")


def test_the_list_has_figures_and_sources_within_80_columns(bench, tmp_path):
    (tmp_path / "bench.toml").write_text(CARD)
    result = bench("list", "cards")
    assert result.returncode == 0 and not result.stderr
    lines = result.stdout.splitlines()
    urls = [line for line in lines if len(line) > 80]
    assert all("https://" in line for line in urls)
    assert lines[0] == "my card" and "RTX 4090" in lines and "V100 16GB" in lines
    at = lines.index("RTX 4090")
    told = " ".join(line.strip() for line in lines[at + 1 : at + 6])
    assert "23.52 GiB (25,250,627,584 bytes), context 500.00 MiB (assumed), compute capability 8.9, 128 multi" in told
    assert "source: deviceQuery (CUDA 13.0)" in told
    assert "refused: cuDNN does not know it any more" in " ".join(line.strip() for line in lines)
