"""What kernels take at their limits and in forms that few programs use, as the virtual card answered."""

import json
import lzma
import sys
from pathlib import Path

import pytest

from bench.memory import CARDS

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.calls import recorded, settled
from fidelity.kernel_limits import CALLS

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "limits-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of selections by value, and of variances of nothing
@pytest.mark.parametrize("name", ANSWERS)
def test_every_call_takes_what_it_takes_on_the_virtual_card(name):
    found = list(zip(CALLS, map(settled, recorded(CALLS, CARDS[name])), map(settled, ANSWERS[name]), strict=True))
    assert len(found) > 900
    assert [each for each in found if each[1] != each[2]] == []
