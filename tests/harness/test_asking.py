"""The memory of a step, asked from Python: numbers that show in a notebook where they come from."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch

import bench
from bench.errors import UsageError
from bench.fitting.named_step import NamedStep, named
from bench.units import MiB

USABLE_MIB = 8 * 1024 - 500


def one_mib_each(batch, device):
    print("not shown")
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)


def test_numbers_counted_by_hand(capsys):
    largest = bench.largest_batch(one_mib_each, cap="8GB", engine="simulated")
    assert largest == USABLE_MIB
    assert f"{largest}" == f"{USABLE_MIB}"
    assert largest.answer.cards[0].left_bytes == 0
    assert bench.peak_memory(one_mib_each, 8, gpu="RTX 3080", engine="simulated") == 20 * MiB  # up to 10 MiB: a segment
    assert bench.peak_memory(one_mib_each, 10**5, cap="8GB", engine="simulated") == 10**5 * MiB  # more than it has
    assert capsys.readouterr().out == ""


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts = []

    def handle_data(self, data):
        self.texts += [data.strip()] if data.strip() else []


def test_a_notebook_shows_the_answer():
    told = bench.peak_memory(one_mib_each, USABLE_MIB + 1, cap="8GB", engine="simulated")
    cells = Cells()
    cells.feed(told._repr_html_())
    cells.close()
    row = cells.texts.index("8GB")
    assert cells.texts[row : row + 5] == ["8GB", "7,692", "7.51 GiB", "0 B", "7.51 GiB"]
    assert "8GB: no, batch 7693 does not fit; it needs 2.00 MiB more than the 7.51 GiB there are" in cells.texts
    assert "CUDA's own context takes 500.00 MiB of 8GB" in cells.texts


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        (lambda: bench.largest_batch(one_mib_each), ValueError, "a bound is on one card"),
        (lambda: bench.peak_memory(one_mib_each, 0, cap="8GB"), ValueError, "a batch is at least 1, got 0"),
        (lambda: bench.largest_batch(lambda: 0, cap="8GB"), ValueError, "is no step"),
        (
            lambda: bench.largest_batch(lambda batch: 0, cap="8GB", engine="virtual"),
            UsageError,
            "the virtual engine runs steps in another process",
        ),
    ],
)
def test_what_cannot_be_asked(asked, error, sentence):
    with pytest.raises(error, match=sentence):
        asked()


def test_a_step_has_a_name_where_another_process_can_import_it(tmp_path):
    assert named("train.py:make_step") == NamedStep("train.py:make_step")
    assert named(one_mib_each) == NamedStep(f"{__name__}:one_mib_each")
    assert named(lambda batch: None) is None
    script = tmp_path / "script.py"
    script.write_text(
        "from bench.fitting.named_step import named\n"
        "def make_step(batch, device): ...\nprint(named(make_step).source)\n"
    )
    told = subprocess.check_output([sys.executable, script.name], cwd=tmp_path, text=True)
    assert told == f"{script}:make_step\n"


def test_what_is_not_asked_is_not_imported():
    program = "import bench, sys; assert 'torch' not in sys.modules; bench.nope"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("AttributeError: module 'bench' has no attribute 'nope'")
