"""The garbage collector is paused inside, and afterwards as it was."""

import gc
import subprocess
import sys

import pytest

from bench.garbage import collector_paused


@pytest.fixture(params=[True, False], ids=["on", "off"])
def was_enabled(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_paused_inside_and_as_before_afterwards(was_enabled):
    with collector_paused(), collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled() == was_enabled


def test_as_a_decorator_of_what_fails(was_enabled):
    @collector_paused()
    def failing():
        raise ValueError(gc.isenabled())

    with pytest.raises(ValueError, match="False"):
        failing()
    assert gc.isenabled() == was_enabled


def test_what_an_import_makes_is_not_looked_at_again():
    code = """
import gc
from bench.commands.common import import_torch
import_torch("bench.garbage")
import bench.garbage
assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
