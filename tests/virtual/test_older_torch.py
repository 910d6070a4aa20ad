"""The virtual card with a PyTorch that bench is too new for, in another python: named by BENCH_OLDER_PYTHON.

BENCH_OLDER_PYTHON=.venv-cuda-2.2/bin/python pytest tests/virtual/test_older_torch.py
"""

import os
from pathlib import Path

import pytest

from bench.memory import CARDS
from bench.virtual.goldens import read, same
from tools.virtual_goldens.kinds import KINDS
from tools.virtual_goldens.older import Build, made

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
PYTHON = os.environ.get("BENCH_OLDER_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BENCH_OLDER_PYTHON names no python with an older PyTorch")


@pytest.mark.parametrize("name", ["histories", "histories-turing", "histories-ampere"])
def test_the_card_answers_what_is_kept(name):
    """Every event of every step, where the release is one that goldens are kept of."""
    path = FOLDER / f"{name}-{Build.of(PYTHON).release}.json.xz"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    assert same(read(path), made(PYTHON, KINDS[name]))


def test_what_cudnn_8_answers_of_another_architecture_is_not_taken_for_exact():
    """What it reads in its handle was held against a Turing card alone."""
    if Build.of(PYTHON).release != "2.2":
        pytest.skip("another cuDNN")
    (golden,) = made(PYTHON, KINDS["histories-turing"]._replace(card=CARDS["RTX 3080"])).cells.values()
    assert golden.lower_bounds == ("cudnnBackendFinalize",)
