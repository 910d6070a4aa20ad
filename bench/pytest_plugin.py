"""pytest plugin: tests of training memory, without a GPU (docs/CI.md).

    @pytest.mark.max_batch(cap="8GB", at_least=10)
    def test_trains_on_8_gb(record_step):
        record_step(make_step)

pytest imports this wherever bench is installed, so torch is imported by what uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bench.step_memory import StepMemory

MARK = "max_batch"

_recorded = pytest.StashKey[list["StepMemory"]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(*, at_least, cap or gpu): every training step that the test gives to record_step must fit a card at "
        'batch `at_least` or more; the card is cap="8GB" (any capacity) or gpu="RTX 3080" (see `bench list`). '
        "May be repeated.",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse wrong marks before the test runs; a test that is refused is an error, and the others run."""
    for mark in item.iter_markers(MARK):
        try:
            max_batch(*mark.args, **mark.kwargs)
        except (TypeError, ValueError) as error:
            raise pytest.fail.Exception(f"wrong mark {MARK}: {error}", pytrace=False) from None


def max_batch(*, at_least: int, cap: str | None = None, gpu: str | None = None) -> None:
    """Check the arguments of a mark.

    Raises:
        ValueError: a card or a batch that does not exist.
    """
    from bench.memory.search import LARGEST_BATCH
    from bench.step_memory import chosen_card

    chosen_card(cap, gpu)
    if type(at_least) is not int or not 1 <= at_least <= LARGEST_BATCH:
        raise ValueError(f"at_least is a whole number from 1 to {LARGEST_BATCH:,}, got {at_least!r}")


@pytest.fixture
def record_step(request: pytest.FixtureRequest) -> Callable[..., StepMemory]:
    """Record any training step without a GPU, and ask or assert how much memory it takes (bench.step_memory).

    `record_step(make_step)`, where `make_step(batch, device)` builds model and optimiser on `device` and returns a
    function that runs one training step on `batch` samples, or has another of the forms of bench.memory.forms. A step
    that cannot be recorded fails the test.
    """
    from bench.memory import NotRecordableError
    from bench.memory.forms import WrongFormError
    from bench.memory.recording.recorder import STEPS
    from bench.step_memory import StepMemory

    recorded = request.node.stash[_recorded] = []

    def record_step(make_step: Callable[..., object], steps: int = STEPS) -> StepMemory:
        try:
            step = StepMemory(make_step, steps)
        except (NotRecordableError, WrongFormError) as error:
            raise pytest.fail.Exception(f"the training step cannot be recorded: {error}", pytrace=False) from None
        recorded.append(step)
        return step

    return record_step


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Hold what a marked test recorded against its marks, as if the test itself did so last."""
    result = yield
    marks = list(item.iter_markers(MARK))
    recorded = item.stash.get(_recorded, [])
    if marks and not recorded:
        pytest.fail(
            f"marked {MARK}, but recorded no training step: take the fixture record_step, call record_step(make_step)",
            pytrace=False,
        )
    for step in recorded:
        for mark in reversed(marks):  # the mark written first stands last
            try:
                step.assert_largest_batch(**mark.kwargs)
            except AssertionError as error:
                raise pytest.fail.Exception(str(error), pytrace=False) from None
    return result
