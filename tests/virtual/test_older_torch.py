"""The virtual card with a PyTorch that bench is too new for, in another python: named by BENCH_OLDER_PYTHON.

BENCH_OLDER_PYTHON=.venv-cuda-2.2/bin/python pytest tests/virtual/test_older_torch.py
"""

import os
from pathlib import Path

import pytest

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
