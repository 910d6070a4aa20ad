"""Steps around networks of other people's packages: both engines answer, and say the same.

Slow: each is a process that imports its package. What is not installed is skipped; `pip install 'bench-inverse[steps]'`
has all of it.
"""

import pytest
import torch

from tools.any_step.real_steps import asked, names

NAMES = names()

MOST = 0.01  # of the peaks, by which the engines may differ

# Refused in the recording: the line that asks, and why.
REFUSED = {}

# Peaks that differ by more, and why.
DIFFERENT = {}


def test_there_are_steps_of_many_packages():
    assert len(NAMES) >= 40
    assert len({name.split(":")[0] for name in NAMES}) >= 10
    assert not {*REFUSED, *DIFFERENT} - {name.split(".with_")[1] for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_engines_say_the_same(name):
    try:
        found = asked(name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    known = name.split(".with_")[1]
    if known in REFUSED:
        assert REFUSED[known] in found.recorded.refusal
        return
    assert found.recorded.refusal == ""
    assert found.recorded.batch > 0
    if not torch.version.cuda:
        return
    assert found.virtual.refusal == ""
    if known not in DIFFERENT:
        assert max(map(abs, found.differences)) <= MOST
