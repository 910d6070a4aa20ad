"""Memory histories recorded on real GPUs: every allocation must get the very address the card's process got.

The files are other people's and stay outside the repository: without them these tests are skipped.
"""

import gzip
import json

import pytest

from tests.fidelity.histories import FOLDER, replayed

NAMES = ["cnn_conv_bn_pool", "transformer_course", "transformer_forward"]


@pytest.mark.parametrize("name", NAMES)
def test_every_address_is_the_recorded_one(name):
    path = FOLDER / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: recorded traces are not part of the repository")
    with gzip.open(path) as file:
        trace = json.load(file)
    allocator, wrong = replayed(trace)
    assert wrong == []
    assert {"reserved": allocator.reserved_bytes, "allocated": allocator.allocated_bytes} == trace["final"]
