"""The garbage collector is paused inside, and afterwards as it was."""

import gc

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
